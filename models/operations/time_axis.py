"""Which tensors of a call are currents, and where each of them holds time."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from las_sj.models.operations.coded import forget_coded
from las_sj.neurons import watching

_MARK = "las_time_axis"
_WRITTEN = "las_was_written"


class TimeAxis(NamedTuple):
    """Where a current holds time: a dimension of outer·T·N entries, time steps in its middle.

    Attributes:
        axis: the dimension.
        outer: how many runs of all T steps follow each other in it; 1 where steps come first, as in [T·B, ...].
        steps: the step of each entry of the dimension where they have another order, as tokens that are sorted by
            their experts; all steps have as many entries, in the same order.
    """

    axis: int
    outer: int = 1
    steps: tuple[int, ...] = ()

    def at(self, axis: int) -> "TimeAxis":
        """Where a current holds time in dimension `axis`, its steps in the order that they have here."""
        return self._replace(axis=axis)


class OneStep(NamedTuple):
    """In place of a `TimeAxis`: a current that is of a single time step, as of one image of a batch that was split.

    Attributes:
        axis, outer: of no meaning.
        step: which one.
    """

    axis: int
    outer: int
    step: int

    @property
    def steps(self) -> tuple[int, ...]:
        """None of its entries are of other steps."""
        return ()

    def at(self, axis: int) -> "OneStep":
        """Itself: it holds time nowhere."""
        return self


def mark(x: Tensor, axis: TimeAxis | OneStep) -> Tensor:
    """Make a tensor a current that holds time there."""
    setattr(x, _MARK, axis)
    return x


def unmark(x: Tensor) -> Tensor:
    """Make a tensor no current any more, nor what it is a view of."""
    forget_coded(x)
    for tensor in (x, watching.base_of(x)):
        for name in (_MARK, _WRITTEN) if tensor is not None else ():
            vars(tensor).pop(name, None)
    return x


def alike(x: Tensor, other: Tensor) -> Tensor:
    """`other`, a current that holds time where `x` does, if it does."""
    axis = time_axis_of(x)
    return other if axis is None else mark(other, axis)


def mark_written(x: Tensor, axis: TimeAxis) -> Tensor:
    """Make a tensor a current, and what it is a view of too: currents were written to its memory."""
    base = watching.base_of(x)
    if base is not None and time_axis_of(base) is None:
        mark(base, _in_memory_of(x, axis, base))
        setattr(base, _WRITTEN, True)
    return mark(x, axis)


def time_axis_of(x: Any) -> TimeAxis | None:
    """Where a current holds time; None for what is no current."""
    if not isinstance(x, Tensor):
        return None
    axis: TimeAxis | None = getattr(x, _MARK, None)
    if axis is not None:
        return axis
    base = watching.base_of(x)
    if base is None or not getattr(base, _WRITTEN, False):
        return None
    return _in_memory_of(base, getattr(base, _MARK), x)


def _in_memory_of(x: Tensor, axis: TimeAxis, other: Tensor) -> TimeAxis:
    """Where another tensor in the memory of a current holds time: its dimension with the same stride."""
    with watching.uninterrupted():
        strides, sizes, stride = other.stride(), other.shape, x.stride(axis.axis)
        size = x.shape[axis.axis]
    found = [d for d, other_stride in enumerate(strides) if other_stride == stride and sizes[d] == size]
    return axis.at(found[0]) if found else axis


class Timeline:
    """Arithmetic with currents that hold time in any of their dimensions.

    Args:
        time_steps: T; 1 in accumulated calls, where nothing holds time.
    """

    def __init__(self, time_steps: int) -> None:
        self.time_steps = time_steps

    def apart(self, x: Tensor, axis: TimeAxis) -> Tensor:
        """A current with that dimension as three, [..., outer, T, N, ...]."""
        if axis.steps:
            x = x.index_select(axis.axis, _order(axis, x))
        sizes = (axis.outer, self.time_steps, x.shape[axis.axis] // (axis.outer * self.time_steps))
        return x.unflatten(axis.axis, sizes)

    @staticmethod
    def joined(x: Tensor, axis: TimeAxis) -> Tensor:
        """The inverse of `apart`."""
        x = x.flatten(axis.axis, axis.axis + 2)
        return x.index_select(axis.axis, _order(axis, x).argsort()) if axis.steps else x

    def window(self, x: Tensor, axis: TimeAxis) -> Tensor:
        """A current with time first: [T, outer·N, ...], the other dimensions in their order."""
        x = x.movedim(axis.axis, 0)
        return self.apart(x, axis.at(0)).transpose(0, 1).flatten(1, 2)

    def closed(self, x_seq: Tensor, axis: TimeAxis) -> Tensor:
        """The inverse of `window`."""
        x = x_seq.unflatten(1, (axis.outer, -1)).transpose(0, 1) if axis.outer > 1 else x_seq.unsqueeze(0)
        return self.joined(x, axis.at(0)).movedim(0, axis.axis)

    def total(self, x: Tensor, axis: TimeAxis) -> Tensor:
        """The sum over T of a current, with that dimension T times smaller."""
        if self.time_steps == 1:  # nothing holds time
            return x.clone()
        return self.apart(x, axis).sum(axis.axis + 1).flatten(axis.axis, axis.axis + 1)

    def running(self, x: Tensor, axis: TimeAxis) -> Tensor:
        """The sums up to each step, in the shape of the current."""
        return self.joined(self.apart(x, axis).cumsum(axis.axis + 1), axis)

    def repeated(self, x: Tensor, axis: TimeAxis) -> Tensor:
        """What is the same at every step, as `total` returns it, in the shape of a current."""
        if self.time_steps == 1:
            return x
        x = x.unflatten(axis.axis, (axis.outer, 1, -1))
        sizes = [self.time_steps if d == axis.axis + 1 else -1 for d in range(x.dim())]
        return self.joined(x.expand(sizes), axis)

    def share(self, x: Tensor, axis: TimeAxis) -> Tensor:
        """The part of one step of a constant that was repeated for all; constants of other sizes as they are."""
        if self.time_steps == 1 or not 0 <= axis.axis < x.dim():
            return x
        if x.shape[axis.axis] % (axis.outer * self.time_steps):
            return x
        return self.apart(x, axis).select(axis.axis + 1, 0).flatten(axis.axis, axis.axis + 1)

    def spread(self, x: Tensor, axis: TimeAxis, shares: Tensor) -> Tensor:
        """A value, as `total` returns it, as a current with the given shares of steps [T]."""
        x = x.unflatten(axis.axis, (axis.outer, 1, -1))
        return self.joined(x * shares.view(-1, *[1] * (x.dim() - axis.axis - 2)), axis)

    def after_view(self, shape: Sequence[int], axis: TimeAxis, new: Sequence[int]) -> TimeAxis | None:
        """Where time is after a view that keeps the order of entries; None where steps are torn apart."""
        if self.time_steps == 1 or 0 in shape:
            return axis if axis.axis < len(new) else TimeAxis(0)
        if axis.steps:
            return _same_dimension(shape, axis, new)
        before = math.prod(shape[: axis.axis]) * axis.outer
        prefix = 1
        for d, size in enumerate(new):
            if before % prefix == 0 and size * prefix % (before * self.time_steps) == 0:
                return TimeAxis(d, before // prefix)
            prefix *= size
        return None

    def along(self, shape: Sequence[int], axis: TimeAxis, like: Tensor) -> Tensor:
        """The number of its step for each entry of a current, [*shape]; it takes no memory."""
        if axis.steps:
            steps = torch.tensor(axis.steps, device=like.device, dtype=torch.float32)
        else:
            steps = torch.arange(self.time_steps, device=like.device, dtype=torch.float32)
            steps = steps.repeat_interleave(shape[axis.axis] // (axis.outer * self.time_steps)).repeat(axis.outer)
        return steps.view(-1, *[1] * (len(shape) - axis.axis - 1)).expand(tuple(shape))

    def found_in(self, steps: Tensor) -> TimeAxis | None:
        """Where a tensor that holds numbers of steps has time, and nothing else than time; −1 is unknown."""
        if self.time_steps == 1:
            return TimeAxis(0)
        for d, size in enumerate(steps.shape):
            outer = size // self.time_steps
            for runs in range(1, outer + 1) if size % self.time_steps == 0 else ():
                if outer % runs == 0 and self._fits(steps, TimeAxis(d, runs)):
                    return TimeAxis(d, runs)
        return None

    def entry_by_entry(self, axis: TimeAxis, x: Tensor) -> TimeAxis:
        """Where a current holds time, with the step of each entry, so that it may be taken apart anywhere."""
        steps = self.along(x.shape[axis.axis : axis.axis + 1], axis.at(0), x)
        return TimeAxis(axis.axis, 1, tuple(map(int, steps.tolist())))

    def numbers(self, shape: Sequence[int], axis: TimeAxis, like: Tensor) -> Tensor:
        """A number for each entry of a current, [*shape]: at all steps the same."""
        of_step = [size // self.time_steps if d == axis.axis else size for d, size in enumerate(shape)]
        return self.repeated(torch.arange(math.prod(of_step), device=like.device).view(of_step), axis)

    def order_in(self, steps: Tensor, numbers: Tensor) -> TimeAxis | None:
        """Where a tensor that holds numbers of steps has time in any order.

        Args:
            steps: of each entry.
            numbers: of each entry, as `numbers` gave them: all steps must have the same ones, in the same order.
        """
        for d, size in enumerate(steps.shape):
            line = steps.movedim(d, -1).reshape(-1, size)[0] if size else steps.flatten()
            axis = TimeAxis(d, 1, tuple(map(int, line.tolist())))
            if not size or not torch.equal(self.along(steps.shape, axis, steps), steps):
                continue
            if len({axis.steps.count(step) for step in range(self.time_steps)}) == 1:
                windows = self.apart(numbers, axis)
                return axis if bool((windows == windows.narrow(d + 1, 0, 1)).all()) else None
        return None

    def _fits(self, steps: Tensor, axis: TimeAxis) -> bool:
        expected = self.along(steps.shape, axis, steps)
        return bool(((steps == expected) | (steps < 0)).all())


def _order(axis: TimeAxis, x: Tensor) -> Tensor:
    """Which entry of the dimension comes first, and next, where steps follow each other, int64 [T·N]."""
    return torch.tensor(axis.steps, device=x.device, dtype=torch.int64).argsort(stable=True)


def _same_dimension(shape: Sequence[int], axis: TimeAxis, new: Sequence[int]) -> TimeAxis | None:
    """Where the dimension with time is in another shape, if it is there still."""
    prefix = math.prod(shape[: axis.axis])
    for d, size in enumerate(new):
        if size == shape[axis.axis] and math.prod(new[:d]) == prefix:
            return axis.at(d)
    return None
