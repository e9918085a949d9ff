"""Weights: a current is spikes before them, a bias enters as a constant current."""

import math
from typing import Any

from torch import Tensor

from las_sj.models.layers.linear import through_weights
from las_sj.models.operations.operation import Operation
from las_sj.models.operations.reach import Reach, of_convolution
from las_sj.models.operations.registry import rule


@rule("linear")
def linear(op: Operation, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x·Wᵀ + b, [..., C_in] to [..., C_out]."""
    if op.is_current(weight) or op.is_current(bias) or not op.is_current(input):
        raise op.refusal("with a current as its weights")
    axis = op.axis(input)
    if axis.axis == input.dim() - 1 and op.time_steps > 1:
        raise op.refusal("that sums over time")
    share = bias if bias is None or op.time_steps == 1 else bias / op.time_steps
    coded = op.code(input, reach=lambda: Reach(len(weight)))
    return op.current(through_weights(coded, weight, share), axis)


@rule("bilinear")
def bilinear(op: Operation, *args: Any, **kwargs: Any) -> Tensor:
    """Refused."""
    raise op.refusal("yet")


@rule("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def convolution(
    op: Operation, input: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any
) -> Tensor:
    """A convolution of [T·B, C, ...]."""
    if op.is_current(weight):
        raise op.refusal("with a current as its kernel")
    axis = op.axis(input)
    if op.time_steps > 1 and (axis.axis != 0 or input.dim() != weight.dim()):
        raise op.refusal("without a batch first")
    share = bias if bias is None or op.time_steps == 1 else bias / op.time_steps
    rows = len(input) // op.time_steps
    coded = op.code(input, reach=lambda: of_convolution(op.function, input[:rows], weight, args, kwargs))
    return op.current(op.function(coded, weight, share, *args, **kwargs), axis)


@rule("fft_fft", "fft_ifft", "fft_rfft", "fft_irfft", "fft_hfft", "fft_ihfft")
def fourier(op: Operation, input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """A Fourier transform, whose weights are constant."""
    axis = op.axis(input)
    if dim % input.dim() == axis.axis and op.time_steps > 1:
        raise op.refusal("that sums over time")
    frequencies = input.shape[dim] if n is None else n
    coded = input if input.is_complex() else op.code(input, reach=lambda: Reach(frequencies, macs=0))
    return op.current(op.function(coded, n, dim, norm), axis)


@rule("fft_fft2", "fft_fftn")
def fourier_of_several(
    op: Operation, input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None
) -> Tensor:
    """A Fourier transform along several dimensions: one product with constant weights, not one after another."""
    axis, dims = op.axis(input), range(input.dim()) if dim is None else [d % input.dim() for d in dim]
    if axis.axis in dims and op.time_steps > 1:
        raise op.refusal("that sums over time")
    frequencies = math.prod([input.shape[d] for d in dims] if s is None else s)
    coded = input if input.is_complex() else op.code(input, reach=lambda: Reach(frequencies, macs=0))
    return op.current(op.function(coded, s, dim, norm), axis)
