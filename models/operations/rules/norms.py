"""Norms: centred values and scale are coded, squares and 1/√· come from HG neurons, gains are weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from las_sj.models.layers.products import spiking_product
from las_sj.models.operations.operation import Operation
from las_sj.models.operations.populations import Kind
from las_sj.models.operations.registry import composite, rule
from las_sj.models.operations.time_axis import TimeAxis
from las_sj.neurons import CentredOctaves, RowOctaves, fused
from las_sj.neurons.precision import HALF, single

_LEAST = 1.1920928955078125e-07  # torch's ε where RMSNorm has none


@rule("layer_norm")
def layer_norm(
    op: Operation,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(x − mean)·γ/√(variance + ε) + β over the last dimensions."""
    return _over_last(op, input, len(normalized_shape), (weight, bias), eps, centres=True)


@rule("rms_norm")
def rms_norm(
    op: Operation,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """x·γ/√(mean(x²) + ε) over the last dimensions."""
    return _over_last(op, input, len(normalized_shape), (weight, None), _LEAST if eps is None else eps, centres=False)


def _over_last(op: Operation, x: Tensor, dims: int, ends: Any, epsilon: float, *, centres: bool) -> Tensor:
    axis = op.axis(x)
    if op.time_steps > 1 and axis.axis >= x.dim() - dims:
        raise op.refusal("over time")
    ends = tuple(end if end is None else end.flatten() for end in ends)
    y = _norm(op, x.flatten(-dims), axis, ends, epsilon, centres=centres)
    return op.current(y.view(x.shape), axis)


def _norm(op: Operation, x: Tensor, axis: TimeAxis, ends: Any, epsilon: float, *, centres: bool) -> Tensor:
    """Over the last dimension, by the kernels of `fused` where nobody watches."""
    kinds = {
        # A centred spike goes into the squares and into the product with the scale, which has a term for each channel.
        "centred": Kind("", "product", epsilon=epsilon, synapses=2, additions=2 * centres, native="norm"),
        "square": Kind("square"),
        "rsqrt": Kind("rsqrt"),
        "scale": Kind("", "product", synapses=x.shape[-1]),
        "output": Kind("", "product"),
    }
    nodes: Any = tuple(op.node(role, kind) for role, kind in kinds.items())
    _bring_rows_into_range(nodes, epsilon)
    temporal = op.temporal
    window = (op.time.window(x, axis) if temporal else x.unsqueeze(0)).contiguous()
    y = _in_one_pass(op, nodes, window, ends, epsilon, centres=centres)
    if y is None and window.dtype in HALF:  # which transformers computes norms in single precision of
        window, ends = single(window), tuple(end if end is None else single(end) for end in ends)
        y = _in_one_pass(op, nodes, window, ends, epsilon, centres=centres)
    if y is None:
        y = _each_population(op, nodes, window, ends, epsilon, centres=centres)
        y = y if temporal else y.squeeze(0)
    y = y.to(x.dtype)
    return op.time.closed(y, axis) if temporal else y


def _in_one_pass(
    op: Operation, nodes: Any, window: Tensor, ends: Any, epsilon: float, *, centres: bool
) -> Tensor | None:
    gains, bias = ends
    return fused.norm(nodes, window, gains, bias, epsilon, centres=centres, as_train=op.temporal)


def _bring_rows_into_range(nodes: Any, epsilon: float) -> None:
    """Rows of sizes that calibration has not seen are shifted by octaves, as those of `layers.norm` are."""
    centred, _, _, scale, output = nodes
    if centred.octaves is None:
        centred.octaves = CentredOctaves(scale, epsilon)
        scale.octaves = output.octaves = RowOctaves()


def _each_population(op: Operation, nodes: Any, x_seq: Tensor, ends: Any, epsilon: float, *, centres: bool) -> Tensor:
    """Currents [S, ..., C] to trains of as many steps; S is 1 in accumulated calls."""

    def emit(node: Any, window: Tensor) -> Tensor:
        if op.temporal:
            return op.populations.emit(node, window)
        return op.populations.fire(node, window.squeeze(0)).unsqueeze(0)

    centred_node, square, rsqrt, scale_node, output = nodes
    x_seq = x_seq - x_seq.mean(-1, keepdim=True) if centres else x_seq
    centred = emit(centred_node, x_seq)
    shifted = epsilon if centred_node.bypass else centred_node.octaves.shifted(centred_node, x_seq.sum(0))
    variance = emit(square, centred).mean(-1, keepdim=True) + shifted / len(x_seq)
    scale = emit(scale_node, emit(rsqrt, variance))
    y = emit(output, spiking_product(centred, scale) if op.temporal else centred * scale)
    gains, bias = ends
    y = y if gains is None else y * gains
    return y if bias is None else y + bias / len(x_seq)


@composite("group_norm")
def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """LayerNorm without gains over the channels of each group and all positions of [T·B, C, ...]."""
    groups = input.reshape(input.shape[0], num_groups, -1)
    output = torch.layer_norm(groups, groups.shape[-1:], None, None, eps).view(input.shape)
    return _affine(output, weight, bias)


@composite("instance_norm")
def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *args: Any,
) -> Tensor:
    """LayerNorm over the positions of each channel; or with the statistics of training."""
    if not use_input_stats and running_mean is not None and running_var is not None:
        return _by_statistics(input, running_mean, running_var, weight, bias, eps)
    flat = input.flatten(2)
    output = torch.layer_norm(flat, flat.shape[-1:], None, None, eps).view(input.shape)
    return _affine(output, weight, bias)


@composite("batch_norm")
def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *args: Any,
) -> Tensor:
    """A scale and a shift for each channel of [T·B, C, ...].

    Raises:
        NotImplementedError: the statistics are those of the batch.
    """
    if training or running_mean is None or running_var is None:
        raise NotImplementedError("batch norm with the statistics of the batch has no spiking form: call model.eval()")
    return _by_statistics(input, running_mean, running_var, weight, bias, eps)


def _by_statistics(
    input: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    scale = torch.rsqrt(variance + eps) * (1.0 if weight is None else weight)
    return _affine(input, scale, (0.0 if bias is None else bias) - mean * scale)


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """x·γ + β for channels in the second dimension."""
    shape = (1, -1, *[1] * (x.dim() - 2))
    x = x if weight is None else x * weight.view(shape)
    return x if bias is None else x + bias.view(shape)


@composite("normalize")
def normalize(input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: None = None) -> Tensor:
    """x divided by its norm over a dimension.

    Raises:
        NotImplementedError: the norm is another than the Euclidean one.
    """
    if p != 2.0:
        raise NotImplementedError(f"normalize with p = {p} has no spiking form")
    return input * torch.rsqrt(torch.square(input).sum(dim, keepdim=True) + eps**2)


@composite("cosine_similarity")
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The product of both, normalised."""
    first, second = (x * torch.rsqrt(torch.square(x).sum(dim, keepdim=True) + eps**2) for x in (x1, x2))
    return (first * second).sum(dim)


@composite("norm", "linalg_norm", "linalg_vector_norm", "vector_norm", "frobenius_norm")
def norm(input: Tensor, p: Any = 2, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Tensor:
    """The Euclidean or the sum norm over dimensions.

    Raises:
        NotImplementedError: it is another norm.
    """
    p = kwargs.get("ord", p)
    if p in (1, 1.0):
        return torch.abs(input).sum(dim, keepdim=keepdim)
    if p not in (2, None, "fro"):
        raise NotImplementedError(f"the norm of order {p} has no spiking form")
    return torch.sqrt(torch.square(input).sum(dim, keepdim=keepdim))
