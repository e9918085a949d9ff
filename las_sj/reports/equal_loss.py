"""How many bits would an ANN with quantised activations need, to lose no more than the spiking network does?"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from las_sj.checkpoint.placement import input_device
from las_sj.conversion.structure import bypassed_coding
from las_sj.data.batches import Batch, to_device, without_padding
from las_sj.models import Site, execution_of, named_sites, running
from las_sj.models.rate_coded.activation import RateCodedActivation
from las_sj.models.rate_coded.network import named_activations
from las_sj.neurons.rate_coded.quantizer import quantised

MOST_BITS = 24
_MATRIX_PRODUCTS = ("scores", "values")


@contextmanager
def quantised_ann(model: PreTrainedModel, bits: int | None) -> Iterator[None]:
    """Within this context a converted model, in the accumulated execution, is the ANN with quantised activations.

    The operands of its matrix products (weights aside) are rounded to the nearest of 2^bits − 1 values, symmetric. Each
    row of channels of each token has a scale. Norms, softmax and activations stay exact.

    Of a network of rate codes, activations that are coded are, between 0 and their threshold.

    Args:
        model: the converted model.
        bits: of an activation; None does not quantise.
    """
    if execution_of(model).lanes is not None:
        with _activations_of(model, bits):
            yield
        return
    hooks = [
        site.node.register_forward_hook(_rounding(bits))
        for _, site in named_sites(model)
        if bits is not None and _feeds_matrices(site)
    ]
    try:
        with bypassed_coding(model):
            yield
    finally:
        for hook in hooks:
            hook.remove()
        for _, site in named_sites(model):
            site.node.reset()  # a hook makes a node keep its membrane potential


@contextmanager
def _activations_of(model: PreTrainedModel, bits: int | None) -> Iterator[None]:
    """Within this context rate-coded activations have 2^bits values, or are clipped and no more."""

    def hook(activation: nn.Module, args: Any, output: Tensor) -> Tensor:
        assert isinstance(activation, RateCodedActivation)
        if bits is None:
            return args[0].clamp(torch.zeros_like(activation.theta), activation.theta).to(output.dtype)
        return quantised(args[0], activation.theta, 2**bits - 1, activation.clip_first)

    hooks = [activation.register_forward_hook(hook) for _, activation in named_activations(model)]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


def _feeds_matrices(site: Site) -> bool:
    return site.feeds == "weights" or any(synapses.operator in _MATRIX_PRODUCTS for synapses in site.synapses)


def _rounding(bits: int) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    largest = 2 ** (bits - 1) - 1

    def hook(module: nn.Module, args: Any, values: Tensor) -> Tensor:
        scale = values.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(values.dtype).tiny) / largest
        return (values / scale).round_().mul_(scale)

    return hook


@torch.no_grad()
def fewest_bits(model: PreTrainedModel, batches: Iterable[Batch]) -> int | None:
    """The fewest bits with which the quantised ANN's outputs are as near to the ANN's as the SNN's are.

    Measured as the relative error of the first output (logits or hidden states), padding excluded. The model's
    execution is left as it was. Of rate codes, the ANN has activations that are clipped at their thresholds.

    Args:
        model: a converted model.
        batches: dicts of keyword arguments.

    Returns:
        2 … 24, or None where 24 do not reach it.
    """
    batches = [to_device(batch, input_device(model)) for batch in batches]
    with running(model, execution_of(model).counted_in):
        spiking = _outputs(model, batches)
    with running(model, "accumulated"):
        with quantised_ann(model, None):
            exact = _outputs(model, batches)
        target = _error(spiking, exact)
        few, many = 2, MOST_BITS
        if _quantised_error(model, batches, exact, many) > target:
            return None
        while few < many:
            middle = (few + many) // 2
            if _quantised_error(model, batches, exact, middle) <= target:
                many = middle
            else:
                few = middle + 1
        return few


def _quantised_error(model: PreTrainedModel, batches: list[Batch], exact: list[Tensor], bits: int) -> float:
    with quantised_ann(model, bits):
        return _error(_outputs(model, batches), exact)


def _outputs(model: PreTrainedModel, batches: list[Batch]) -> list[Tensor]:
    outputs = []
    for batch in batches:
        outputs.append(without_padding(batch, model(**batch)[0]))
    return outputs


def _error(outputs: list[Tensor], exact: list[Tensor]) -> float:
    error = sum(float((a - b).double().square().sum()) for a, b in zip(outputs, exact, strict=True))
    norm = sum(float(b.double().square().sum()) for b in exact)
    return float((error / norm) ** 0.5) if norm else 0.0
