"""Straight-through gradients of the codes, the same in both step modes.

dy/dx is 1 in range and 0 outside; dy/dα is that of LSQ (arXiv 1902.08153): the residual (y − x)/α in range, y/α
outside. A train's steps share the gradient of their sum evenly.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class StraightThroughCode(torch.autograd.Function):
    """Code a membrane potential; `encode(v)` gives the output, [B, ...] or a train [T, B, ...]."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, alpha: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        y = encode(v)
        is_train = y.dim() > v.dim()
        ctx.save_for_backward(v, alpha, y.sum(0) if is_train else y)
        ctx.is_train = is_train
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        v, alpha, y = ctx.saved_tensors
        gradient = gradients[0].mean(0) if ctx.is_train else gradients[0]
        in_range = v.abs() <= alpha
        grad_alpha = None
        if ctx.needs_input_grad[1]:
            grad_alpha = gradient * torch.where(in_range, y - v, y) / alpha
            grad_alpha = grad_alpha.sum_to_size(alpha.shape)
        return gradient * in_range, grad_alpha, None


class SlopeOfSubNeuron(torch.autograd.Function):
    """An HG neuron's output, [B, ...] or a train [T, B, ...], whose gradient is the slope of the sub-neuron."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, slope: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(slope)
        y = encode(v)
        ctx.is_train = y.dim() > v.dim()
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        gradient = gradients[0].mean(0) if ctx.is_train else gradients[0]
        return gradient * slope, None, None
