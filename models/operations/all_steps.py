"""One operation on currents of single time steps, at all of them: see `lanes`."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from las_sj.models.operations.one_step import OperationOfOneStep, at_step, know_later_steps, later_steps
from las_sj.models.operations.operation import Operation
from las_sj.models.operations.registry import Rule
from las_sj.models.operations.time_axis import OneStep, TimeAxis, mark, time_axis_of
from las_sj.models.registry import UnsupportedModelError

_OF_VALUES = frozenset({"nonzero", "unique", "bincount", "histc", "multinomial"})  # no entry has a place of its own
_OF_MATRICES = frozenset({"matmul", "__matmul__", "mm"})
Join = Callable[[list[Tensor]], Tensor]


def run_in_lanes(op: Operation, known: Rule, step: int, args: Any, kwargs: Any) -> Any:
    """An operation on currents of a single time step.

    Args:
        op: as it would be with whole currents.
        known: the rule.
        step: of the currents.
        args, kwargs: of the function.
    """
    lanes = op.scope.lanes
    if step:
        try:
            return lanes.next_of(step, op.name)
        except LookupError:
            raise op.refusal("of parts of the batch that take different ways") from None
    outputs = _at_all_steps(op, known, args, kwargs)
    lanes.add(op.name, outputs)
    return _knowing(outputs[0], outputs[1:])


def _at_all_steps(op: Operation, known: Rule, args: Any, kwargs: Any) -> list[Any]:
    """What a function returns at each step: step by step where it needs no neurons, else together."""
    if any(len(later_steps(x)) != op.time_steps - 1 for x in _parts_in((*args, *kwargs.values()))):
        raise op.refusal("of a part of the batch")
    try:
        return [_alone(op, known, step, args, kwargs) for step in range(op.time_steps)]
    except UnsupportedModelError:
        return _together(op, known, args, kwargs)


def _alone(op: Operation, known: Rule, step: int, args: Any, kwargs: Any) -> Any:
    named = {name: at_step(value, step) for name, value in kwargs.items()}
    return known.run(OperationOfOneStep(op, OneStep(0, 1, step)), *at_step(args, step), **named)


def _together(op: Operation, known: Rule, args: Any, kwargs: Any) -> list[Any]:
    """Parts of all steps in one current, one after another in their first dimension, which must be one of a batch.

    Matrices get such a dimension.
    """
    parts = _parts_in((*args, *kwargs.values()))
    if op.name in _OF_MATRICES and all(x.dim() == 2 for x in parts):
        products = _apart(op, _run(op, known, args, kwargs, torch.stack), 0)
        return [mark(x.squeeze(0), OneStep(0, 1, step)) for step, x in enumerate(products)]
    rows = {x.shape[:1] for x in parts}
    if len(rows) > 1 or torch.Size() in rows:
        raise op.refusal("of parts of the batch that have no dimension in common")
    return _apart(op, _run(op, known, args, kwargs, torch.cat), next(iter(rows))[0] * op.time_steps)


def _run(op: Operation, known: Rule, args: Any, kwargs: Any, join: Join) -> Any:
    whole = _joined(args, op.time_steps, join)
    named = {name: _joined(value, op.time_steps, join) for name, value in kwargs.items()}
    try:
        return known.run(op, *whole, **named)
    except (IndexError, RuntimeError) as error:  # shapes that do not go together
        raise op.refusal("of a part of the batch") from error


def _parts_in(values: Sequence[Any]) -> list[Tensor]:
    found = []
    for value in values:
        if isinstance(value, Tensor) and isinstance(time_axis_of(value), OneStep):
            found.append(value)
        elif isinstance(value, tuple | list):
            found += _parts_in(value)
    return found


def _joined(value: Any, time_steps: int, join: Join) -> Any:
    if isinstance(value, Tensor) and isinstance(time_axis_of(value), OneStep):
        return mark(join([at_step(value, step) for step in range(time_steps)]), TimeAxis(0))
    if type(value) in (tuple, list):
        return type(value)(_joined(item, time_steps, join) for item in value)
    return value


def _apart(op: Operation, output: Any, rows: int) -> list[Any]:
    """The inverse for what a function returns; what has no rows of the batch is the same at all steps."""
    if isinstance(output, tuple | list):
        items = [_apart(op, item, rows) for item in output]
        kind = type(output) if type(output) in (tuple, list) else tuple
        return [kind(item[step] for item in items) for step in range(op.time_steps)]
    axis = time_axis_of(output)
    if axis is None and (not isinstance(output, Tensor) or op.name in _OF_VALUES or output.shape[:1] != (rows,)):
        return [output] * op.time_steps
    if axis is not None and axis != TimeAxis(0):
        raise op.refusal("of parts of the batch, which moves them")
    parts = output.chunk(op.time_steps)
    return [part if axis is None else mark(part, OneStep(0, 1, step)) for step, part in enumerate(parts)]


def _knowing(output: Any, later: list[Any]) -> Any:
    """What an operation of the first step returns, with what it returns at the later ones."""
    if isinstance(output, Tensor):
        return know_later_steps(output, later) if time_axis_of(output) is not None else output
    if isinstance(output, tuple | list):
        for place, item in enumerate(output):
            _knowing(item, [value[place] for value in later])
    return output
