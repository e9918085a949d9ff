"""Which class an operation that touches data belongs to: from its operator, and from where its operands come."""

from typing import Any

import torch
from torch import Tensor

from las_sj.analysis.auditing.classes import (
    ADDITION,
    ANALOG_PRODUCT,
    COMPARISON,
    CONSTANT_SCALING,
    SPIKE_ACCUMULATED,
    SPIKE_WEIGHT,
    Event,
)
from las_sj.analysis.auditing.convolutions import convolution_synapses, weight_synapses
from las_sj.analysis.auditing.operators import (
    ADDITIONS,
    COMPARISONS,
    ELEMENTWISE_PRODUCTS,
    FOURIER_TRANSFORMS,
    MATRIX_PRODUCTS,
    POOLINGS,
    SCALED_SUMS,
    SUMS,
    adds_at_places,
    attention_macs,
)
from las_sj.analysis.auditing.provenance import Provenance

MASKED = "by a mask"


class Classifier:
    """Tells what an operation does.

    Args:
        provenance: knows where operands come from.
        weights: storages of the model's parameters.
    """

    def __init__(self, provenance: Provenance, weights: set[int]) -> None:
        self.provenance = provenance
        self.weights = weights

    def classify(self, name: str, args: Any, kwargs: dict[str, Any], inputs: list[Tensor]) -> list[Event]:
        """The events of an operation on data."""
        if name in MATRIX_PRODUCTS:
            return self._matrix_product(name, args)
        if name == "convolution":
            return self._convolution(args)
        if name in FOURIER_TRANSFORMS:
            return [self._fourier_transform(name, args)]
        if name in ELEMENTWISE_PRODUCTS:
            return self._elementwise_product(name, args)
        if name in ADDITIONS or adds_at_places(name, args, kwargs):
            return _additions(name, inputs)
        if name == "_to_copy" and kwargs.get("dtype") == torch.bool:
            return [(COMPARISON, "ne", None)]
        if name in COMPARISONS:
            return [(COMPARISON, name, inputs[0].numel())]
        fused = attention_macs(name, args)
        return [(ANALOG_PRODUCT, name, fused or inputs[0].numel())]

    def _matrix_product(self, name: str, args: Any) -> list[Event]:
        product = MATRIX_PRODUCTS[name]
        a, b = args[product.first], args[product.second]
        events = [self._product_of(name, a, b, product.fan_out(a, b), product.macs(a, b))]
        if product.adds is not None and isinstance(args[product.adds], Tensor):
            events.append((ADDITION, name, None))
        return events

    def _convolution(self, args: Any) -> list[Event]:
        x, weight, bias = args[:3]
        name = "transposed convolution" if args[6] else "convolution"
        events: list[Event] = [] if bias is None else [(ADDITION, name, None)]
        if self.provenance.is_spikes(x):
            return [(self._kind_beside(weight), name, convolution_synapses(args, x != 0)), *events]
        if self.provenance.is_spikes(weight):
            return [(self._kind_beside(x), name, weight_synapses(args, weight != 0)), *events]
        return [(ANALOG_PRODUCT, name, convolution_synapses(args)), *events]

    def _fourier_transform(self, name: str, args: Any) -> Event:
        """Each number meets a constant for each frequency of its line; fast algorithms need analog numbers."""
        x, axes = args[0], args[1]
        frequencies = torch.Size(x.shape[axis] for axis in axes).numel()
        if self.provenance.is_spikes(x):
            return SPIKE_WEIGHT, name, _spikes_in(x) * frequencies
        return ANALOG_PRODUCT, name, x.numel() * frequencies

    def _elementwise_product(self, name: str, args: Any) -> list[Event]:
        added = ELEMENTWISE_PRODUCTS[name]
        a, b = args[:2] if added is None else args[1:3]
        events: list[Event] = [] if added is None else [(ADDITION, name, None)]
        tensors = [operand for operand in (a, b) if isinstance(operand, Tensor)]
        data = [operand for operand in tensors if self.provenance.of(operand) is not None]
        if not data:
            return events
        shape = torch.broadcast_shapes(*(operand.shape for operand in tensors))
        if name in ("div", "addcdiv") and any(operand is b for operand in data):
            return [*events, (ANALOG_PRODUCT, name, shape.numel())]
        if len(data) == 2:
            fan_out = (shape.numel() // max(a.numel(), 1), shape.numel() // max(b.numel(), 1))
            return [*events, self._product_of(name, a, b, fan_out, shape.numel())]
        constant = next((operand for operand in tensors if operand is not data[0]), None)
        return [*events, self._scaling(name, data[0], constant, shape)]

    def _scaling(self, name: str, data: Tensor, constant: Tensor | None, shape: torch.Size) -> Event:
        """Of data by constants, one each, or of spikes by weights."""
        is_weight = constant is not None and constant.untyped_storage()._cdata in self.weights
        spread = shape.numel() > data.numel()
        if constant is not None and constant.numel() > 1 and (is_weight or spread) and self.provenance.is_spikes(data):
            return SPIKE_WEIGHT, name, _spikes_in(data) * (shape.numel() // max(data.numel(), 1))
        if spread:  # each value meets several constants: a matrix in disguise
            return ANALOG_PRODUCT, name, shape.numel()
        return CONSTANT_SCALING, f"{name} by {_name_of_constant(constant, is_weight)}", None

    def _product_of(self, name: str, a: Tensor, b: Tensor, fan_out: tuple[int, int], macs: int) -> Event:
        """A product of two tensors, at least one of which depends on the input."""
        for mask, other, additions in ((a, b, fan_out[0]), (b, a, fan_out[1])):
            if self.is_decided_mask(mask) and self.provenance.of(other) is not None:
                return COMPARISON, f"{name} {MASKED}", _spikes_in(mask) * additions
        for spikes, other, synapses in ((a, b, fan_out[0]), (b, a, fan_out[1])):
            if self.provenance.is_spikes(spikes):
                return self._kind_beside(other), name, _spikes_in(spikes) * synapses
        return ANALOG_PRODUCT, name, macs

    def _kind_beside(self, other: Tensor) -> str:
        """The class of a product of spikes and this operand."""
        return SPIKE_WEIGHT if self.provenance.of(other) is None else SPIKE_ACCUMULATED

    def is_decided_mask(self, tensor: Any) -> bool:
        """Whether a tensor holds 0 and 1 that say what was decided: it selects what it is multiplied by."""
        if not isinstance(tensor, Tensor):
            return False
        origin = self.provenance.of(tensor)
        return origin is not None and origin.index and is_mask(tensor)


def is_mask(tensor: Tensor) -> bool:
    """Whether there is nothing but 0 and 1 in a tensor."""
    return tensor.dtype == torch.bool or bool(((tensor == 0) | (tensor == 1)).all())


def _additions(name: str, inputs: list[Tensor]) -> list[Event]:
    """Of all numbers that are given where they are summed up, else one for each result."""
    scaled: list[Event] = [(CONSTANT_SCALING, "mean" if name in SUMS else name, None)] if name in SCALED_SUMS else []
    return [(ADDITION, name, inputs[0].numel() if name in SUMS | POOLINGS else None), *scaled]


def _spikes_in(tensor: Tensor) -> int:
    return int(tensor.count_nonzero())


def _name_of_constant(constant: Tensor | None, is_weight: bool) -> str:
    if is_weight:
        return "a weight"
    return "a scale factor" if constant is None or constant.numel() == 1 else "a table of constants"
