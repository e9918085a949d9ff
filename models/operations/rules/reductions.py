"""Sums and means over dimensions of a current that do not hold time."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from las_sj.models.operations.operation import Operation
from las_sj.models.operations.registry import composite, rule
from las_sj.models.operations.time_axis import TimeAxis


def dimensions_of(x: Tensor, dim: Any) -> tuple[int, ...]:
    """Dimensions as numbers from 0 on; all where none is named."""
    if dim is None or dim == ():
        return tuple(range(x.dim()))
    return tuple(d % x.dim() for d in (dim if isinstance(dim, tuple | list) else (dim,)))


def after_reduction(op: Operation, x: Tensor, dims: Sequence[int], keepdim: bool) -> TimeAxis:
    """Where time is after dimensions went."""
    axis = op.axis(x)
    if op.time_steps == 1:
        return axis
    if axis.axis in dims:
        raise op.refusal("over the batch")
    return axis if keepdim else axis.at(axis.axis - sum(d < axis.axis for d in dims))


@rule("sum", "mean", "nansum", "nanmean")
def reduction(op: Operation, x: Tensor, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Tensor:
    """The sum, or the mean."""
    dim = kwargs.pop("axis", dim)
    axis = after_reduction(op, x, dimensions_of(x, dim), keepdim)
    return op.current(op.function(x, dimensions_of(x, dim), keepdim, **kwargs), axis)


@rule("cumsum")
def cumulative(op: Operation, x: Tensor, dim: int, **kwargs: Any) -> Tensor:
    """Sums up to each entry along a dimension."""
    after_reduction(op, x, [dim % x.dim()], True)
    return op.current(torch.cumsum(x, dim, **kwargs), op.axis(x))


@composite("diff")
def diff(input: Tensor, n: int = 1, dim: int = -1) -> Tensor:
    """Differences of neighbours along a dimension."""
    for _ in range(n):
        size = input.shape[dim]
        input = input.narrow(dim, 1, size - 1) - input.narrow(dim, 0, size - 1)
    return input


def _variance(input: Tensor, dim: Any, unbiased: Any, correction: Any, keepdim: bool) -> tuple[Tensor, Tensor]:
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    dims = dimensions_of(input, dim)
    mean = input.mean(dims, keepdim=True)
    square = torch.square(input - mean).mean(dims, keepdim=keepdim)
    count = math.prod(input.shape[d] for d in dims)
    less = correction if correction is not None else 0 if unbiased is False else 1
    square = square if less == 0 else square * (count / (count - less))
    return square, mean if keepdim else input.mean(dims)


@composite("var")
def var(
    input: Tensor, dim: Any = None, unbiased: Any = True, keepdim: bool = False, *, correction: Any = None
) -> Tensor:
    """The variance: squares by HG neurons, and their mean."""
    return _variance(input, dim, unbiased, correction, keepdim)[0]


@composite("std")
def std(
    input: Tensor, dim: Any = None, unbiased: Any = True, keepdim: bool = False, *, correction: Any = None
) -> Tensor:
    """The square root of the variance."""
    return torch.sqrt(_variance(input, dim, unbiased, correction, keepdim)[0])


@composite("var_mean")
def var_mean(
    input: Tensor, dim: Any = None, unbiased: Any = True, keepdim: bool = False, *, correction: Any = None
) -> tuple[Tensor, Tensor]:
    """Variance and mean."""
    return _variance(input, dim, unbiased, correction, keepdim)


@composite("std_mean")
def std_mean(
    input: Tensor, dim: Any = None, unbiased: Any = True, keepdim: bool = False, *, correction: Any = None
) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean."""
    square, mean = _variance(input, dim, unbiased, correction, keepdim)
    return torch.sqrt(square), mean
