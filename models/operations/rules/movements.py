"""Functions that move dimensions of a current, or take parts of it."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from las_sj.models.operations.one_step import know_later_steps, marked_parts, split_by_step
from las_sj.models.operations.operation import Operation
from las_sj.models.operations.registry import composite, rule
from las_sj.models.operations.time_axis import OneStep, TimeAxis, mark


@rule("transpose", "swapaxes", "swapdims", "permute", "movedim", "moveaxis", "t", "T", "mT", "H", "mH", "adjoint")
def move(op: Operation, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Dimensions in another order: the marks of dimensions move as they do."""
    output: Tensor = op.function(x, *args, **kwargs)
    axis = op.axis(x)
    if op.time_steps == 1:
        return op.current(output, axis)
    numbers = torch.empty([d + 2 for d in range(x.dim())], device="meta")
    moved = op.function(numbers, *args, **kwargs)
    return op.current(output, axis.at(list(moved.shape).index(axis.axis + 2)))


@rule("expand", "broadcast_to", "expand_as")
def expand(op: Operation, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """New dimensions come first."""
    output: Tensor = op.function(x, *args, **kwargs)
    return op.current(output, op.aligned(output.dim(), [x])) if op.is_current(x) else output


@rule("repeat", "tile")
def repeat(op: Operation, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Copies along dimensions; along that of time, all steps follow each other several times."""
    output: Tensor = op.function(x, *args, **kwargs)
    axis = op.aligned(output.dim(), [x])
    copies = output.shape[axis.axis] // max(x.shape[op.axis(x).axis], 1)
    if axis.steps and copies > 1:
        raise op.refusal("of currents whose time steps have another order")
    return op.current(output, axis._replace(outer=axis.outer * copies))


@rule("repeat_interleave")
def repeat_interleave(op: Operation, x: Tensor, repeats: Any, dim: int | None = None, **kwargs: Any) -> Tensor:
    """Copies of each entry along a dimension."""
    output: Tensor = torch.repeat_interleave(x, repeats, dim, **kwargs)
    several = op.axis(x).steps or (isinstance(repeats, Tensor) and repeats.numel() > 1)
    if dim is None or (several and dim % x.dim() == op.axis(x).axis):
        raise op.refusal("along time")
    return op.current(output, op.axis(x))


@rule("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk")
def split(op: Operation, x: Tensor, sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Parts along a dimension; where that holds time, parts of each step."""
    axis, dim = op.axis(x), dim % x.dim()
    if dim != axis.axis or op.time_steps == 1:
        return tuple(op.current(part, axis) for part in op.function(x, sizes, dim))
    if axis.steps or (axis.outer > 1 and not isinstance(sizes, int)):
        return _split_in_order(op, x, sizes, op.time.entry_by_entry(axis, x))
    if not op.name.endswith("chunk") and _are_of_steps(op, x.shape[dim], sizes):
        return marked_parts(split_by_step(op, x, _as_list(sizes, x.shape[dim]), dim), op.time_steps)
    if axis.outer > 1 or not isinstance(sizes, int):
        raise op.refusal("along time")
    of_steps = sizes if op.name.endswith("chunk") else _per_step(op, sizes)
    parts = op.function(op.time.apart(x, axis).squeeze(dim), of_steps, dim + 1)
    return tuple(op.current(part.flatten(dim, dim + 1), axis) for part in parts)


def _split_in_order(op: Operation, x: Tensor, sizes: Any, axis: TimeAxis) -> tuple[Tensor, ...]:
    """Parts along time in another order, as the tokens of each expert: all steps have as many entries in each part."""
    parts, start = op.function(x, sizes, axis.axis), 0
    for part in parts:
        steps = axis.steps[start : start + part.shape[axis.axis]]
        start += len(steps)
        if len({steps.count(step) for step in range(op.time_steps)}) > 1:
            raise op.refusal("that tears time steps apart")
        op.current(part, axis._replace(steps=steps))
    return tuple(parts)


def _are_of_steps(op: Operation, length: int, sizes: Any) -> bool:
    """Whether parts are those of single images, and not shares of the batch: they lie within one time step each."""
    return not isinstance(sizes, int) or (length // op.time_steps) % sizes == 0


def _as_list(sizes: Any, length: int) -> list[int]:
    return [sizes] * (length // sizes) if isinstance(sizes, int) else [int(size) for size in sizes]


def _per_step(op: Operation, size: int) -> int:
    if size % op.time_steps:
        raise op.refusal("that tears time steps apart")
    return size // op.time_steps


@composite("hsplit")
def hsplit(input: Tensor, sections: Any) -> Sequence[Tensor]:
    """Parts along the second dimension."""
    return torch.tensor_split(input, sections, 1 if input.dim() > 1 else 0)


@rule("unbind")
def unbind(op: Operation, x: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Each entry along a dimension, which goes."""
    axis, dim = op.axis(x), dim % x.dim()
    if dim == axis.axis and op.time_steps > 1:
        parts = split_by_step(op, x, [1] * x.shape[dim], dim)
        return marked_parts([part.squeeze(dim) for part in parts], op.time_steps)
    left = axis.at(axis.axis - (dim < axis.axis))
    return tuple(op.current(part, left) for part in x.unbind(dim))


@composite("__iter__")
def iterate(input: Tensor) -> Iterator[Tensor]:
    """Each entry along the first dimension."""
    return iter(input.unbind(0))


@rule("select", "narrow", "index_select", "gather", "take_along_dim", "unfold_copy")
def along(op: Operation, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Entries chosen along one dimension, by constants."""
    if not op.is_current(x):
        return op.function(x, *args, **kwargs)  # type: ignore[no-any-return]
    output: Tensor = op.function(x, *args, **kwargs)
    axis = op.axis(x)
    dim = kwargs.get("dim", next((value for value in args if isinstance(value, int)), None))
    if dim is None or dim % x.dim() == axis.axis:
        if op.time_steps == 1:
            return op.current(output, axis)
        return op.current(output, followed(op, x, *args, **kwargs))
    return op.current(output, axis.at(axis.axis - (op.name == "select" and dim % x.dim() < axis.axis)))


def followed(op: Operation, x: Tensor, *args: Any, **kwargs: Any) -> TimeAxis:
    """Where the function takes time, seen by what it does to the numbers of steps."""
    axis = op.axis(x)
    steps = op.function(op.time.along(x.shape, axis, x), *args, **kwargs)
    found = op.time.found_in(steps)
    if found is None:
        found = op.time.order_in(steps, op.function(op.time.numbers(x.shape, axis, x), *args, **kwargs))
    if found is None:
        raise op.refusal("that tears time steps apart")
    return found


@rule("unfold")
def unfold(op: Operation, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Windows along a dimension (a method), or patches of images (`F.unfold`): time stays where it is."""
    return op.current(op.function(x, *args, **kwargs), op.axis(x))


@rule("__getitem__")
def getitem(op: Operation, x: Tensor, index: Any) -> Tensor:
    """Parts by slices, numbers, masks and tensors of indices."""
    output: Tensor = x[index]
    if not op.is_current(x) or op.time_steps == 1:
        return op.current(output, TimeAxis(0)) if op.is_current(x) else output
    items = list(index) if isinstance(index, tuple) else [index]
    if not all(item is None or item is Ellipsis or isinstance(item, int | slice) for item in items):
        return op.current(output, followed(op, x, index))
    items = _of_all_dimensions(x, items)
    place = _item_of(items, op.axis(x).axis)
    chosen = range(x.shape[op.axis(x).axis])[_as_slice(items[place])]
    if isinstance(items[place], slice) and len(chosen) == x.shape[op.axis(x).axis] and chosen.step == 1:
        new = sum(not isinstance(item, int) for item in items[:place])
        return op.current(output, op.axis(x).at(new))
    return _of_one_step(op, x, items, place, chosen)


def _as_slice(item: int | slice) -> slice:
    return item if isinstance(item, slice) else slice(item, item + 1 or None)


def _of_all_dimensions(x: Tensor, items: list[Any]) -> list[Any]:
    """An index with an item for each dimension, and None for each new one."""
    place = next((i for i, item in enumerate(items) if item is Ellipsis), len(items))
    rest = items[place + 1 :]
    missing = x.dim() - sum(item is not None for item in (*items[:place], *rest))
    return [*items[:place], *[slice(None)] * missing, *rest]


def _item_of(items: list[Any], dim: int) -> int:
    """Where the item of a dimension stands in an index."""
    return [place for place, item in enumerate(items) if item is not None][dim]


def _of_one_step(op: Operation, x: Tensor, items: list[Any], place: int, chosen: range) -> Tensor:
    """Entries of the dimension that holds time which belong to a single time step."""
    per_step = x.shape[op.axis(x).axis] // op.time_steps
    steps = {entry // per_step for entry in chosen}
    if len(steps) != 1 or op.axis(x).outer > 1 or op.axis(x).steps:
        raise op.refusal("that takes part of the batch")
    step = steps.pop()

    def at(later: int) -> Tensor:
        moved = [entry + (later - step) * per_step for entry in chosen]
        item = slice(moved[0], moved[-1] + 1, chosen.step) if isinstance(items[place], slice) else moved[0]
        return mark(x[(*items[:place], item, *items[place + 1 :])], OneStep(0, 1, later))

    return at(step) if step else know_later_steps(at(0), [at(later) for later in range(1, op.time_steps)])


@rule("as_strided")
def as_strided(
    op: Operation, x: Tensor, size: Sequence[int], stride: Sequence[int], *args: Any, **kwargs: Any
) -> Tensor:
    """Windows that overlap, of a current in one piece of memory."""
    output = torch.as_strided(x, size, stride, *args, **kwargs)
    axis = op.axis(x)
    if op.time_steps == 1:
        return op.current(output, axis)
    steps = torch.empty_strided(x.shape, x.stride()).copy_(op.time.along(x.shape, axis, x))
    found = op.time.found_in(torch.as_strided(steps, size, stride, *args, **kwargs))
    if found is None:
        raise op.refusal("that tears time steps apart")
    return op.current(output, found)


@rule("diagonal")
def diagonal(op: Operation, x: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """Diagonals of two dimensions, which go; theirs comes last."""
    axis, gone = op.axis(x), sorted((dim1 % x.dim(), dim2 % x.dim()))
    if axis.axis in gone and op.time_steps > 1:
        raise op.refusal("along time")
    place = axis.axis - sum(d < axis.axis for d in gone)
    return op.current(torch.diagonal(x, offset, dim1, dim2), axis.at(place))


@rule("diag_embed")
def diag_embed(op: Operation, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The last dimension as a diagonal of the last two."""
    if args or kwargs:
        raise op.refusal("with arguments")
    return op.current(torch.diag_embed(x), op.axis(x))
