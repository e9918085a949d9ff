"""Watches every operation of a call: which class it is of, where it stands, and where its results come from."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

import las_sj.models
import las_sj.neurons
from las_sj.analysis.auditing.classes import ANALOG_PRODUCT, COMPARISON, NEURON_UPDATE
from las_sj.analysis.auditing.classifier import Classifier, is_mask
from las_sj.analysis.auditing.honest_nodes import expected_train, same_train
from las_sj.analysis.auditing.moving import keeps_spikes, origin_of_masked, origin_of_moved, origin_of_written
from las_sj.analysis.auditing.operators import (
    COMPARISONS,
    DECISIONS,
    FRESH,
    MOVEMENTS,
    OVERWRITING,
    base_name,
    holds_fractions,
    is_view,
    moves_only,
)
from las_sj.analysis.auditing.provenance import Origin, Provenance, covers_its_storage, tensors_in
from las_sj.models.rate_coded.activation import RateCodedActivation
from las_sj.neurons import WindowNode
from las_sj.neurons.rate_coded import RateCodedNode

_ANALYSIS = Path(__file__).parents[1]
_OWN = tuple(f"{folder}{os.sep}" for package in (las_sj.models, las_sj.neurons, torch) for folder in package.__path__)
_OWN += (f"{_ANALYSIS}{os.sep}",)
_IN_NO_CODE = ""
NODES = (WindowNode, RateCodedNode)


class Follower(TorchDispatchMode):
    """Classifies each operation before it runs, and follows where its results come from.

    Args:
        model: what is called.

    Attributes:
        provenance: where numbers come from.
        counts: operations by module, class, operator and place.
        flow: populations that each population's output comes to with no others in between, by name.
        drivers: layers of weights whose results each population integrates, by name.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.provenance = Provenance()
        self.counts: dict[tuple[str, str, str, str], int] = {}
        self.flow: dict[str, set[str]] = {}
        self.drivers: dict[str, set[str]] = {}
        weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
        self._classifier = Classifier(self.provenance, weights)
        self._names = {module: name or type(model).__name__ for name, module in model.named_modules()}
        self._stack: list[nn.Module] = []
        self._node_input: Origin | None = None
        self._node_train: Tensor | None = None

    def enter_module(self, module: nn.Module, args: Any) -> None:
        """A module is about to run."""
        self._stack.append(module)
        if isinstance(module, NODES):
            with _disable_current_modes():
                self._node_input = self.provenance.merged(tensors_in(args))
                self._node_train = expected_train(module, *args)

    def leave_module(self, module: nn.Module, args: Any, output: Any) -> None:
        """A module has run."""
        self._stack.pop()
        if isinstance(module, RateCodedActivation) and isinstance(output, Tensor):
            with _disable_current_modes():
                self.provenance.mark_rate_code(module, output)
        if isinstance(module, NODES) and isinstance(output, Tensor):
            owner = self._names.get(module, type(module).__name__)
            self._add((NEURON_UPDATE, type(module).__name__, output.numel()), owner)
            with _disable_current_modes():
                self._connect(owner)
                self.provenance.mark_train(owner, module, output, self._node_input)
                honest = same_train(self._node_train, output)
            if not honest:
                self._add((ANALOG_PRODUCT, "not what its neurons emit for its input", output.numel()), owner)
        if is_matrix(getattr(module, "weight", None)) and isinstance(output, Tensor):
            with _disable_current_modes():
                self.provenance.mark_layer(self._names.get(module, ""), output)

    def _connect(self, population: str) -> None:
        """Remember what comes to a population."""
        if self._node_input is not None:
            for source in self._node_input.populations:
                self.flow.setdefault(source, set()).add(population)
            self.drivers.setdefault(population, set()).update(self._node_input.layers)

    @property
    def _inside_neurons(self) -> bool:
        return any(isinstance(module, NODES) for module in self._stack)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator of torch, and take notice of it."""
        kwargs = kwargs or {}
        if self._inside_neurons or any(tensor.is_meta for tensor in tensors_in((args, kwargs))):
            return func(*args, **kwargs)  # tensors without numbers tell shapes
        name = base_name(func)
        with _disable_current_modes():
            inputs = self._inputs(name, args, kwargs)
            merged = self.provenance.merged(inputs)
            silent = moves_only(func, name, args, kwargs) or merged is None or merged.index
            events = [] if silent else self._classifier.classify(name, args, kwargs, inputs)
        output = func(*args, **kwargs)
        with _disable_current_modes():
            self._follow(func, name, args, kwargs, output, merged)
            numel = sum(tensor.numel() for tensor in tensors_in(output))
            for kind, label, count in events:
                self._add((kind, label, numel if count is None else count))
        return output

    def _inputs(self, name: str, args: Any, kwargs: Any) -> list[Tensor]:
        """The tensors whose numbers go into an operation."""
        if name in FRESH:
            return []
        if name == "index" and (taken := self.provenance.of(args[0])) is not None and taken.index:
            return [args[0]]  # tokens picked by a list in the code arrive with a tensor of unknown origin
        overwritten = name in OVERWRITING and covers_its_storage(args[0])
        rest = {key: value for key, value in kwargs.items() if key != "out"}
        return tensors_in((args[1:] if overwritten else args, rest))

    def _add(self, event: tuple[str, str, int], module: str | None = None) -> None:
        kind, operator, count = event
        if module is None:
            module = next((self._names[module] for module in reversed(self._stack) if module in self._names), "")
        is_decision = kind == COMPARISON and operator in DECISIONS
        place = place_in_code() if kind == ANALOG_PRODUCT or is_decision else _IN_NO_CODE
        key = (module, kind, operator, place)
        self.counts[key] = self.counts.get(key, 0) + count

    def _follow(self, func: Any, name: str, args: Any, kwargs: Any, output: Any, merged: Origin | None) -> None:
        """Mark what an operation wrote."""
        if is_view(func):
            return
        written = _written_by(func, args, kwargs)
        moves = keeps_spikes(func, name, args, kwargs)
        for tensor in written:
            moved = origin_of_written(self.provenance, func, name, args, kwargs) if moves else None
            self.provenance.mark(tensor, moved or self._of_written(name, tensor, merged))
        if written:
            return
        for tensor in tensors_in(output):
            moved = None
            if moves and holds_fractions(tensor):
                moved = origin_of_moved(self.provenance, func, name, args, kwargs, tensor)
            elif name == "mul":
                moved = self._of_masked(args, tensor)
            self.provenance.mark(tensor, moved or _of_result(name, tensor, merged))

    def _of_written(self, name: str, tensor: Tensor, merged: Origin | None) -> Origin | None:
        """The origin of a tensor that was written to; what was there counts, unless all of it was."""
        previous = None if name in OVERWRITING and covers_its_storage(tensor) else self.provenance.of(tensor)
        parts = [found for found in (merged, previous) if found is not None]
        if not parts:
            return None
        index = all(part.index for part in parts) and (not holds_fractions(tensor) or is_mask(tensor))
        return Origin(
            max(part.depth for part in parts),
            index=index,
            populations=frozenset().union(*(part.populations for part in parts)),
            layers=frozenset().union(*(part.layers for part in parts)),
        )

    def _of_masked(self, args: Any, product: Tensor) -> Origin | None:
        """The origin of spikes that a mask lets pass."""
        for spikes, mask in (args[:2], args[1::-1]):
            if isinstance(spikes, Tensor) and isinstance(mask, Tensor) and self.provenance.has_spikes(spikes):
                origin = self.provenance.of(mask)
                if (origin is None or origin.index) and is_mask(mask):
                    return origin_of_masked(self.provenance, spikes, mask, product)
        return None


def _of_result(name: str, tensor: Tensor, merged: Origin | None) -> Origin | None:
    """The origin of a new tensor: what compares gives decisions, as whole numbers or yes and no."""
    if merged is None:
        return None
    if holds_fractions(tensor):
        return replace(merged, index=merged.index and name in MOVEMENTS | COMPARISONS and is_mask(tensor))
    if merged.index or name in COMPARISONS or tensor.dtype == torch.bool:  # decided, and no current any more
        return Origin(merged.depth, index=True)
    return merged


def _written_by(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """The tensors that an operator wrote to in place."""
    values = [
        args[index] if index < len(args) else kwargs.get(argument.name)
        for index, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    return tensors_in(values)


def is_matrix(weight: object) -> bool:
    """Whether a module's weight has columns: [F, C], of a convolution, or an embedding's, whose rows drive too."""
    return isinstance(weight, Tensor) and weight.dim() > 1


def place_in_code() -> str:
    """File, line and function of the innermost code that is neither torch's nor of this package; "" for none."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_OWN):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        return _IN_NO_CODE
    code = frame.f_code
    return f"{Path(code.co_filename).name}:{frame.f_lineno} ({code.co_name})"
