"""Whole layers in one pass over memory: norms, softmax and gated products with all of their populations.

What a population receives over its window is all that it depends on. So a kernel may hand the sums of windows from one
population to the next, and write only what the last one emits: the spikes are the same, and the trains of all but the
last population never reach memory. Where anybody watches a population (a monitor, a hook, an audit, a gradient), the
layer runs each by itself instead; the functions here then return None.
"""

from collections.abc import Callable, Sequence
from ctypes import Structure
from types import ModuleType

import torch
from torch import Tensor

from las_sj.neurons import traced, watching
from las_sj.neurons.fetching import fetched
from las_sj.neurons.hg import HGNode
from las_sj.neurons.kernels import cuda, host
from las_sj.neurons.kernels.choose import kernels_for
from las_sj.neurons.kernels.structures import Counts, Mask, Norm, Softmax
from las_sj.neurons.precision import HALF
from las_sj.neurons.threshold_node import ThresholdNode
from las_sj.neurons.window import WindowNode

Emitted = tuple[Tensor, list[Counts] | None]


def fusable(nodes: Sequence[WindowNode], x: Tensor, *, as_train: bool) -> bool:
    """Whether kernels can run these populations on `x` together, and nobody watches one of them."""
    return _kernels("", nodes, x, as_train=as_train) is not None


def _kernels(name: str, nodes: Sequence[WindowNode], x: Tensor, *, as_train: bool) -> ModuleType | None:
    """`host` or `cuda`, where it can run these populations on `x` together and nobody watches one of them; else None.

    Thresholds per channel have no place in the kernels of layers.
    """
    if watching.operations_are_followed() or x.numel() == 0:
        return None
    mode, time_steps, trained = "m" if as_train else "s", nodes[0].time_steps, torch.is_grad_enabled()
    for node in nodes:
        if node.step_mode != mode or node.time_steps != time_steps or node.is_observed:
            return None
        if trained and node.is_watched(x):
            return None
        for theta in watching.parameters_of(node).values():
            if theta is not None and theta.dim():
                return None
    found = {kernels_for(backend, x) for backend in {node.backend for node in nodes}}
    kernels = found.pop()
    return None if found or kernels is None or not kernels.has_layers(name, x) else kernels


def norm(
    nodes: tuple[ThresholdNode, HGNode, HGNode, ThresholdNode, ThresholdNode],
    x: Tensor,
    gains: Tensor | None,
    bias: Tensor | None,
    epsilon: float,
    *,
    centres: bool,
    as_train: bool,
    live: Tensor | None = None,
) -> Tensor | None:
    """RMSNorm, or LayerNorm (`centres`).

    Args:
        nodes: of centred values, squares, 1/√·, scale and output.
        x: currents [S, ..., C].
        gains, bias: γ and β, [C], or None.
        epsilon: ε.
        centres: whether the mean is subtracted.
        as_train: whether trains [T, ..., C] are returned, or their sums [..., C].
        live: which rows count as inputs, bool [..., 1]; None: all.

    Returns:
        The layer's output, or None where its populations must run one by one.
    """
    channels = x.shape[-1]
    if torch.compiler.is_compiling():
        operands = traced.layer_operands(nodes, x, as_train=as_train) if _of_type(x, gains, bias) else None
        return operands and torch.ops.las_sj.norm(x, gains, bias, epsilon, centres, *operands, as_train)
    fits = all(end is None or (end.shape == (channels,) and end.is_contiguous()) for end in (gains, bias))
    kernels = _kernels("las_norm", nodes, x, as_train=as_train) if fits and _of_type(x, gains, bias) else None
    if kernels is None:
        return None
    ends = [None if end is None else end.data_ptr() for end in (gains, bias)]

    def run(x: Tensor) -> Emitted:
        window, x = kernels.described(x)
        shape = (nodes[-1].time_steps, *x.shape[1:]) if as_train else x.shape[1:]
        centred, square, rsqrt, scale, output = _structures(nodes, x)
        populations = (centred, scale, output, square, rsqrt)
        layer = nodes[-1].population.layer_of(Norm, populations, channels, centres, epsilon, *ends)
        return _emit(kernels, "las_norm", (layer, window), shape, x, nodes, as_train=as_train)

    with fetched(nodes):
        y, counts, rows = _counted(run, (x,), live)
    _tell(nodes, counts, [rows * size for size in (channels, channels, 1, 1, channels)])
    return y


def softmax(
    nodes: tuple[HGNode, WindowNode, HGNode, WindowNode, WindowNode],
    x: Tensor,
    mask: Tensor | None,
    *,
    as_train: bool,
    dtype: torch.dtype | None = None,
) -> Tensor | None:
    """softmax(x + mask), coded.

    Args:
        nodes: of exponentials, weights, reciprocals, scale and probabilities.
        x: currents of scores [S, a, b, c, S_q, S_k], or with fewer dimensions before S_q.
        mask: additive, broadcastable to x without its steps, or None.
        as_train: whether trains [T, ...] are returned, or their sums.
        dtype: of the output, where a kernel can write what it is needed in; else it is that of `x`.

    Returns:
        The layer's output, or None where its populations must run one by one.
    """
    if torch.compiler.is_compiling():
        operands = traced.layer_operands(nodes, x, as_train=as_train) if _of_type(x, mask) else None
        return operands and torch.ops.las_sj.softmax(x, mask, *operands, as_train)
    kernels = _kernels("las_softmax", nodes, x, as_train=as_train) if _of_type(x, mask) else None
    if kernels is None:
        return None
    rows, keys = x.shape[1:-1], x.shape[-1]
    x = x.contiguous()
    window, _ = kernels.described(x)
    window.run, window.c, window.c_stride = keys, window.run // keys, keys
    window.a_stride = window.b_stride = window.c * keys
    shape = (nodes[-1].time_steps, *rows, keys) if as_train else (*rows, keys)
    covering, mask = _mask_of(mask, (*rows, keys))
    with fetched(nodes):
        exponential, weight, reciprocal, scale, probability = _structures(nodes, x)
        populations = (exponential, reciprocal, weight, scale, probability)
        layer = nodes[-1].population.layer_of(Softmax, populations)
        inputs = (layer, window, covering)
        narrow = dtype if dtype in HALF and x.dtype == torch.float32 and not as_train else None
        y, counts = _emit(kernels, "las_softmax", inputs, shape, x, nodes, as_train=as_train, dtype=narrow)
    _tell(nodes, counts, [x[0].numel() // size for size in (1, 1, keys, keys, 1)])
    return y


def gated_product(
    nodes: tuple[HGNode, WindowNode, WindowNode],
    gate: Tensor,
    up: Tensor,
    *,
    as_train: bool,
    live: Tensor | None = None,
) -> Tensor | None:
    """activation(gate) ∘ up, both coded.

    Args:
        nodes: of the activation, of gates and of ups.
        gate, up: currents [S, ..., C].
        as_train: whether trains [T, ..., C] are returned, or their sums.
        live: which rows count as inputs, bool [..., 1]; None: all.

    Returns:
        The layer's output, or None where its populations must run one by one.
    """
    fits = gate.shape == up.shape and _of_type(gate, up)
    if torch.compiler.is_compiling():
        operands = traced.layer_operands(nodes, gate, as_train=as_train) if fits else None
        return operands and torch.ops.las_sj.gated_product(gate, up, *operands, as_train)
    kernels = _kernels("las_gated", nodes, gate, as_train=as_train) if fits else None
    if kernels is None:
        return None

    def run(gate: Tensor, up: Tensor) -> Emitted:
        (first, gate), (second, up) = kernels.described(gate), kernels.described(up)
        shape = (nodes[-1].time_steps, *gate.shape[1:]) if as_train else gate.shape[1:]
        neurons = _structures(nodes, gate)
        return _emit(kernels, "las_gated", (*neurons, first, second), shape, gate, nodes, as_train=as_train)

    with fetched(nodes):
        y, counts, rows = _counted(run, (gate, up), live)
    _tell(nodes, counts, [rows * gate.shape[-1]] * len(nodes))
    return y


def _emit(
    kernels: ModuleType,
    name: str,
    inputs: Sequence[Structure],
    shape: Sequence[int],
    x: Tensor,
    nodes: Sequence[WindowNode],
    *,
    as_train: bool,
    dtype: torch.dtype | None = None,
) -> Emitted:
    """What a layer emits, and the counts of each population where the host has them: those of GPUs stay there.

    `dtype` is what a GPU's kernel emits, where that is not the type of `x`.
    """
    if kernels is host:
        return host.emit_layer(name, inputs, shape, x, as_train, len(nodes))
    return cuda.emit_layer(name, inputs, shape, x, as_train, nodes[-1].population.counter(x, nodes), dtype), None


def _counted(
    run: Callable[..., Emitted], inputs: tuple[Tensor, ...], live: Tensor | None
) -> tuple[Tensor, list[Counts] | None, int]:
    """What a layer emits for inputs [S, ..., C], and the counts of its live rows and how many these are.

    On a GPU, which nobody waits for, the counts are those of all rows.
    """
    y, counts = run(*inputs)
    if live is None or counts is None:
        return y, counts, inputs[0][0, ..., 0].numel()
    live = live.squeeze(-1)
    if any(count.beyond for count in counts):
        counts = run(*(x[:, live] for x in inputs))[1]  # rows do not know of each other
    return y, counts, int(live.sum())


def _of_type(x: Tensor, *others: Tensor | None) -> bool:
    """Whether all have the type and device of `x`, and no gradient flows to them."""
    return all(
        other is None
        or (
            other.dtype == x.dtype
            and other.device == x.device
            and not (other.requires_grad and torch.is_grad_enabled())
        )
        for other in others
    )


def _mask_of(mask: Tensor | None, shape: Sequence[int]) -> tuple[Mask, Tensor | None]:
    """A mask as the kernel sees it, and the tensor that its memory belongs to."""
    if mask is None:
        return Mask(), None
    mask = mask.expand(shape)
    if mask.stride(-1) != 1 or mask.dim() > 5:
        mask = mask.contiguous()
    sizes, strides = (1, 1, 1, 1, *mask.shape[:-1])[-4:], (0, 0, 0, 0, *mask.stride()[:-1])[-4:]
    return Mask(mask.data_ptr(), *sizes[1:], *strides), mask


def _structures(nodes: Sequence[WindowNode], x: Tensor) -> list[Structure]:
    return [node.population.structure(x) for node in nodes]


def _tell(nodes: Sequence[WindowNode], counts: Sequence[Counts] | None, inputs: Sequence[int]) -> None:
    for index, (node, size) in enumerate(zip(nodes, inputs, strict=True)):
        node.counts.add(size, 0 if counts is None else counts[index].beyond)
