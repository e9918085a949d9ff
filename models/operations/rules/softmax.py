"""Softmax and what is made of exponentials: by HG neurons, a linear sum, and spike products."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from las_sj.models.layers.products import spiking_product, subtract_running_max
from las_sj.models.operations.operation import MASKED, Operation
from las_sj.models.operations.populations import Kind
from las_sj.models.operations.registry import composite, rule
from las_sj.models.operations.time_axis import TimeAxis
from las_sj.neurons import FanOut, WindowNode, fused, watching

# Of `layers.softmax`: exponentials, weights, reciprocals, scale and probabilities.
_KINDS = {
    "exp": Kind("exp", additions=2, native="softmax"),
    # A weight spike goes into the sum of its row and into the product with the row's scale.
    "weight": Kind("", "product", 1.0, synapses=2),
    "reciprocal": Kind("reciprocal"),
    "scale": Kind("", "product", 1.0, synapses=None),
    "probability": Kind("", "product", 1.001),
}


@rule("softmax")
def softmax(op: Operation, input: Tensor, dim: int | None = None, *args: Any, **kwargs: Any) -> Tensor:
    """Probabilities over a dimension that does not hold time; hidden entries lie at `MASKED`."""
    dim, dtype = input.dim() - 1 if dim is None else dim % input.dim(), kwargs.get("dtype")
    axis = op.axis(input)
    if dim == axis.axis and op.time_steps > 1:
        raise op.refusal("over time")
    nodes = tuple(op.node(role, kind) for role, kind in _KINDS.items())
    last = input.shape[dim]
    scores = _limited(input).transpose(dim, -1)
    place = axis.at(dim if axis.axis == input.dim() - 1 else axis.axis)
    output = _probabilities(op, nodes, scores, place) if last else scores
    is_last = dim == input.dim() - 1
    output = output if is_last else output.transpose(dim, -1)
    output = op.current(output.to(input.dtype if dtype is None else dtype), axis)
    if is_last and last:  # in the shape of the neurons
        op.kept(op.name_of("probability"), output, output, emits_for_others=True)
    return output


def _limited(scores: Tensor) -> Tensor:
    """Scores of at least 2·`MASKED`: a copy, unless a processor sees that they are."""
    least = 2 * MASKED
    looks = scores.device.type == "cpu" and scores.numel() > 0 and not watching.operations_are_followed()
    if looks and not torch.is_grad_enabled() and float(scores.amin()) >= least:
        return scores
    return scores.clamp(min=least)


def _probabilities(op: Operation, nodes: Any, scores: Tensor, axis: TimeAxis) -> Tensor:
    """Over the last dimension."""
    if op.temporal:
        return op.time.closed(_trains(op, nodes, op.time.window(scores, axis).contiguous()), axis)
    output = fused.softmax(nodes, scores.unsqueeze(0), None, as_train=False) if scores.dim() < 6 else None
    if output is not None:
        return output.view(scores.shape)
    exp, weight, reciprocal, scale, probability = _calls(op, op.populations.fire, nodes, scores.shape[-1])
    weights = weight(exp(scores - scores.amax(-1, keepdim=True)))
    result: Tensor = probability(weights * scale(reciprocal(weights.sum(-1, keepdim=True))))
    return result


def _trains(op: Operation, nodes: Any, window: Tensor) -> Tensor:
    """Over the last dimension, of currents [T, ...]."""
    output = fused.softmax(nodes, window, None, as_train=True) if window.dim() < 7 else None
    if output is not None:
        return output.view(window.shape)
    exp, weight, reciprocal, scale, probability = _calls(op, op.populations.emit, nodes, window.shape[-1])
    weights = weight(exp(subtract_running_max(window.clone())))
    result: Tensor = probability(spiking_product(weights, scale(reciprocal(weights.sum(-1, keepdim=True)))))
    return result


def _calls(op: Operation, run: Callable[..., Tensor], nodes: Sequence[WindowNode], row: int) -> Iterator[Any]:
    """Each population as a function; the scale of a row has a synapse for each of its weights."""
    is_read = op.name_of("probability") in op.populations.readers  # by operations that tell where its spikes go
    last = FanOut(synapses=0, are_read_again=True) if is_read else FanOut()
    for node, fan_out in zip(nodes, (FanOut(), FanOut(), FanOut(), FanOut(synapses=row), last), strict=True):
        yield partial(run, node, fan_out=lambda fan_out=fan_out: fan_out)


@composite("softmin")
def softmin(input: Tensor, dim: int | None = None, *args: Any, **kwargs: Any) -> Tensor:
    """Softmax of −x."""
    return torch.softmax(-input, -1 if dim is None else dim)


@composite("log_softmax")
def log_softmax(input: Tensor, dim: int | None = None, *args: Any, **kwargs: Any) -> Tensor:
    """x minus the logarithm of the sum of its exponentials."""
    return input - torch.logsumexp(input, -1 if dim is None else dim, True)


@composite("logsumexp")
def logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """The largest entry, and the logarithm of the sum of exponentials of what lies below it."""
    (dim,) = dim if isinstance(dim, tuple | list) else (dim,)
    peak = input.amax(dim, keepdim=True)
    output = peak + torch.log(torch.exp(input - peak).sum(dim, keepdim=True))
    return output if keepdim else output.squeeze(dim)
