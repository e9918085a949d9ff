"""Decisions: comparisons, choices and orders are taken on sums over T; values are gathered from the currents."""

from typing import Any

import torch
from torch import Tensor

from las_sj.models.operations.operation import MASKED, Operation
from las_sj.models.operations.registry import composite, rule
from las_sj.models.operations.rules.reductions import after_reduction
from las_sj.models.operations.time_axis import TimeAxis


@rule(
    """
    gt lt ge le eq ne greater less greater_equal less_equal not_equal __gt__ __lt__ __ge__ __le__ __eq__ __ne__
    isnan isinf isfinite sign sgn round floor ceil trunc fix signbit logical_not logical_and logical_or int long
    bool short byte heaviside isclose searchsorted bucketize floor_divide remainder fmod __floordiv__ __mod__
    """
)
def element_wise(op: Operation, *args: Any, **kwargs: Any) -> Tensor:
    """A decision for each entry."""
    dims = max(x.dim() for x in args if isinstance(x, Tensor))
    axis = op.aligned(dims, args)
    op.decided()
    decision: Tensor = op.function(*(_once(op, x, dims, axis) for x in args), **kwargs)
    return op.repeat(decision, axis)


def _once(op: Operation, x: Any, dims: int, axis: TimeAxis) -> Any:
    """The sum over T of a current, and one share of a constant that was repeated for all steps."""
    if op.is_current(x):
        return op.total(x)
    if isinstance(x, Tensor):
        return op.time.share(x, axis.at(axis.axis - dims + x.dim()))
    return x


@rule("argmax", "argmin", "any", "all", "count_nonzero")
def reducing(op: Operation, x: Tensor, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Tensor:
    """A decision over one dimension."""
    op.decided()
    total = op.total(x)
    if dim is None:
        return op.function(total)  # type: ignore[no-any-return]
    decision = op.function(total, dim) if op.name == "count_nonzero" else op.function(total, dim, keepdim)
    return op.repeat(decision, after_reduction(op, x, [dim % x.dim()], keepdim))


@rule("argsort")
def argsort(op: Operation, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The order along one dimension."""
    op.decided()
    return op.repeat(op.function(op.total(x), *args, **kwargs), op.axis(x))


@composite("max")
def largest(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """Of two tensors, or over a dimension with the place."""
    return _extreme(input, dim if other is None else other, keepdim, torch.maximum, torch.argmax)


@composite("min")
def smallest(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """Of two tensors, or over a dimension with the place."""
    return _extreme(input, dim if other is None else other, keepdim, torch.minimum, torch.argmin)


def _extreme(input: Tensor, dim: Any, keepdim: bool, of_two: Any, where: Any) -> Any:
    if isinstance(dim, Tensor):
        return of_two(input, dim)
    if dim is None:
        raise NotImplementedError("the extreme of a whole tensor, over the batch, has no spiking form")
    index = where(input, dim, True)
    values = input.gather(dim, index)
    values, index = (values, index) if keepdim else (values.squeeze(dim), index.squeeze(dim))
    return torch.return_types.max((values, index))


@composite("amax")
def amax(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """The largest entry over a dimension."""
    return _extreme_value(input, dim, keepdim, torch.argmax)


@composite("amin")
def amin(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """The smallest entry over a dimension."""
    return _extreme_value(input, dim, keepdim, torch.argmin)


def _extreme_value(input: Tensor, dim: Any, keepdim: bool, where: Any) -> Tensor:
    dims = sorted(d % input.dim() for d in (dim if isinstance(dim, tuple | list) else (dim,)))
    for d in reversed(dims):
        input = input.gather(d, where(input, d, True))
    return input if keepdim else input.squeeze(tuple(dims))


@composite("topk")
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """The k largest or smallest along a dimension, with their places."""
    index = torch.argsort(input, dim=dim, descending=largest).narrow(dim, 0, k)
    return torch.return_types.topk((input.gather(dim, index), index))


@composite("sort")
def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """All entries along a dimension in order, with their places."""
    index = torch.argsort(input, dim=dim, descending=descending)
    return torch.return_types.sort((input.gather(dim, index), index))


@composite("scatter_reduce")
def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """The largest of the entries that go to each place; places without entries keep what they have.

    Raises:
        NotImplementedError: another reduction, or one with what the places have.
    """
    if reduce != "amax" or include_self:
        raise NotImplementedError("scatter_reduce but for the largest of new entries has no spiking form")
    parts = []
    for place in range(input.shape[dim]):
        goes = index == place
        largest = src.masked_fill(~goes, MASKED).amax(dim, keepdim=True)
        parts.append(torch.where(goes.any(dim, keepdim=True), largest, input.narrow(dim, place, 1)))
    return torch.cat(parts, dim)


@composite("kthvalue")
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The k-th smallest entry along a dimension, with its place."""
    index = torch.argsort(input, dim=dim).narrow(dim, k - 1, 1)
    values = input.gather(dim, index)
    values, index = (values, index) if keepdim else (values.squeeze(dim), index.squeeze(dim))
    return torch.return_types.kthvalue((values, index))


@composite("median")
def median(input: Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    """The middle entry along a dimension, with its place."""
    return torch.kthvalue(input, (input.shape[dim] + 1) // 2, dim, keepdim)


@rule("__bool__", "is_nonzero", "equal", "allclose", "nonzero", "unique", "multinomial", "bincount", "histc")
def of_values(op: Operation, *args: Any, **kwargs: Any) -> Any:
    """A decision that no entry of its own belongs to."""
    op.decided()
    return op.function(*(op.total(x) if op.is_current(x) else x for x in args), **kwargs)


@rule("item", "tolist", "numpy", "__float__", "__int__", "__index__", "__array__")
def reading(op: Operation, *args: Any, **kwargs: Any) -> Any:
    """Refused: numbers that leave the network."""
    raise op.refusal("that reads values")
