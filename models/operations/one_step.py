"""Currents of single time steps: what a model takes out of a batch image by image, and puts together again."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from las_sj.models.operations.operation import Operation
from las_sj.models.operations.populations import Kind
from las_sj.models.operations.time_axis import OneStep, TimeAxis, Timeline, mark, time_axis_of
from las_sj.neurons import WindowNode

_JOINING = ("cat", "concat", "concatenate", "stack")


_LATER = "las_later_steps"


def know_later_steps(x: Tensor, later: Sequence[Tensor]) -> Tensor:
    """Have a current of the first time step know what is in its place at the later ones.

    Args:
        x: the current.
        later: currents of single steps, in the order of time.
    """
    setattr(x, _LATER, tuple(later))
    return x


def later_steps(x: Any) -> tuple[Tensor, ...]:
    """What is at the later time steps in the place of a current of the first one; nothing for other things."""
    return getattr(x, _LATER, ())


def at_step(value: Any, step: int) -> Any:
    """What is at another time step in the place of currents of the first one, in any nesting of lists and tuples."""
    if isinstance(value, Tensor):
        later = later_steps(value)
        return later[step - 1] if step and later else value
    if type(value) in (tuple, list):
        return type(value)(at_step(item, step) for item in value)
    return value


class OperationOfOneStep(Operation):
    """An operation on currents of one time step: only what is linear and keeps them apart is possible.

    Args:
        operation: as it would be with whole currents.
        step: which one.
    """

    def __init__(self, operation: Operation, step: OneStep) -> None:
        super().__init__(operation.scope, operation.name, operation.function, operation.frame)
        self.step = step
        self.time = Timeline(1)  # no tensor holds time

    def node(self, role: str, kind: Kind) -> WindowNode:
        """Refused: neurons take all time steps.

        Raises:
            UnsupportedModelError: always.
        """
        raise self.refusal("of a part of the batch")

    def total(self, x: Tensor) -> Tensor:
        """Refused: the other time steps are elsewhere.

        Raises:
            UnsupportedModelError: always.
        """
        raise self.refusal("that decides by a part of the batch")

    def current(self, x: Tensor, axis: TimeAxis | OneStep) -> Tensor:
        """Mark a tensor as a current of this time step."""
        return mark(x, self.step)

    def share(self, constant: Any) -> Any:
        """A constant as what one step adds."""
        constant = super().share(constant)
        return constant if constant is None else constant / self.scope.time.time_steps


def steps_in(values: Any) -> Iterator[OneStep]:
    """The time steps of currents of single ones among arguments."""
    for value in values:
        if isinstance(value, Tensor):
            axis = time_axis_of(value)
            if isinstance(axis, OneStep):
                yield axis
        elif isinstance(value, tuple | list):
            yield from steps_in(value)


def joined(op: Operation, tensors: Any, dim: int = 0, *others: Any, **kwargs: Any) -> Tensor:
    """Parts of all time steps put together, as many of each and in the order of time, with constants between them.

    Args:
        op: a function that puts tensors together; others are refused.
        tensors: of single steps, or constants.
        dim: along which, that of time from here on.
        others, kwargs: as the function has them.
    """
    if op.name not in _JOINING or others:
        raise op.refusal("of parts of several time steps")
    per_step = max(len(tensors) // op.time_steps, 1)
    sizes = [x.shape[:] for x in tensors]
    in_order = all(step.step == place // per_step for place, x in enumerate(tensors) for step in steps_in([x]))
    if not in_order or sizes != sizes[:per_step] * op.time_steps:
        raise op.refusal("of parts that are not all there, or not in the order of time")
    output: Tensor = op.function([op.addend(x) for x in tensors], dim, **kwargs)
    return mark(output, TimeAxis(dim % output.dim(), 1))


def split_by_step(op: Operation, x: Tensor, sizes: Sequence[int], dim: int) -> list[Tensor]:
    """Parts along the dimension that holds time, each within one time step, unmarked.

    Args:
        op: whose current is split.
        x: it.
        sizes: of the parts.
        dim: that holds time.
    """
    steps = op.time_steps
    if op.axis(x).outer > 1 or op.axis(x).steps:
        raise op.refusal("along time")
    if len(sizes) % steps or list(sizes) != list(sizes[: len(sizes) // steps]) * steps:
        raise op.refusal("that tears time steps apart")
    return list(torch.split(x, list(sizes), dim))


def marked_parts(parts: Sequence[Tensor], time_steps: int) -> tuple[Tensor, ...]:
    """Make parts of all time steps, in the order of time, currents of a single step each."""
    rows = len(parts) // time_steps
    for place, part in enumerate(parts):
        mark(part, OneStep(0, 1, place // rows))
    for place, part in enumerate(parts[:rows]):
        know_later_steps(part, parts[place + rows :: rows])
    return tuple(parts)
