"""Thresholds of rate codes."""

import torch
from torch import Tensor, nn

_LEAST = 1e-6  # training may bring a threshold to 0 or below


def as_positive(name: str, value: float | Tensor, *, is_trained: bool) -> nn.Parameter:
    """A threshold as a parameter, fp32 or, where a tensor of it is given, fp64.

    Args:
        name: for messages.
        value: a number, or a tensor.
        is_trained: whether it has a gradient.

    Raises:
        ValueError: a value is not finite and positive.
    """
    tensor = as_working(value)
    if not tensor.is_meta and not bool((tensor.isfinite() & (tensor > 0)).all()):
        raise ValueError(f"{name} must be finite and positive, got {value}")
    return nn.Parameter(tensor, requires_grad=is_trained)


def as_working(value: float | Tensor) -> Tensor:
    """A copy of a number or tensor in fp32, or fp64 if it is a tensor of that."""
    dtype = torch.float64 if isinstance(value, Tensor) and value.dtype == torch.float64 else torch.float32
    return torch.as_tensor(value, dtype=dtype).detach().clone()


def least_threshold(theta: Tensor) -> Tensor:
    """Thresholds, none below 10⁻⁶."""
    return theta.clamp(min=_LEAST)
