"""Currents that are written into other tensors."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from las_sj.models.operations.operation import MASKED, Operation
from las_sj.models.operations.registry import rule
from las_sj.models.operations.time_axis import TimeAxis, mark_written, time_axis_of
from las_sj.neurons import watching


@rule("__setitem__")
def setitem(op: Operation, x: Tensor, index: Any, value: Any) -> None:
    """x[index] = value."""
    axis = _axis_after(op, x, value, lambda steps, what: steps.__setitem__(index, what))
    x[index] = _ready(op, x, value)
    mark_written(x, axis)


@rule("copy_")
def copy_into(op: Operation, x: Tensor, source: Any, non_blocking: bool = False) -> Tensor:
    """The whole of a tensor."""
    ready = _ready(op, x, source)
    x.copy_(ready, non_blocking)
    if not op.is_current(source):
        return x
    return mark_written(x, op.aligned(x.dim(), [source]))


@rule("fill_", "zero_")
def fill(op: Operation, x: Tensor, value: float = 0.0) -> Tensor:
    """A constant in every place: its share."""
    x.fill_(op.share(value))
    return x


_SOURCE = {"index_add": 2, "index_copy": 2, "scatter": 2, "scatter_add": 2, "masked_scatter": 1, "index_put": 1}


WRITES = frozenset({"__setitem__", "copy_", "fill_", "zero_", *(f"{name}_" for name in _SOURCE)})


@rule(*_SOURCE, *(f"{name}_" for name in _SOURCE), "index_fill", "slice_scatter", "select_scatter")
def write(op: Operation, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Currents or shares of constants in some places."""
    name = op.name.rstrip("_")
    place = _SOURCE.get(name, 0)
    key = next((key for key in ("source", "src", "values", "tensor") if key in kwargs), None)
    value = kwargs[key] if key is not None else args[place]
    if not op.is_current(x) and not op.name.endswith("_"):
        x = x.clone()  # the caller's own stays
    ready = _ready(op, x, value)
    if key is not None:
        kwargs[key] = ready
    else:
        args = (*args[:place], ready, *args[place + 1 :])

    def follow(steps: Tensor, what: Any) -> None:
        changed = {**kwargs, key: what} if key is not None else kwargs
        places = args if key is not None else (*args[:place], what, *args[place + 1 :])
        getattr(steps, {"index_add": "index_copy", "scatter_add": "scatter"}.get(name, name) + "_")(*places, **changed)

    axis = _axis_after(op, x, value, follow)
    output: Tensor = op.function(x, *args, **kwargs)
    return mark_written(x, axis) if output is x else op.current(output, axis)


def _ready(op: Operation, x: Tensor, value: Any) -> Any:
    """What is written; a constant that currents are written to becomes one, its share in all places."""
    if op.is_current(value) and not op.is_current(x) and x.is_floating_point():
        base = watching.base_of(x)
        (x if base is None else base).clamp_(min=MASKED).div_(op.time_steps)
    return op.addend(value)


def _axis_after(op: Operation, x: Tensor, value: Any, follow: Callable[[Tensor, Any], Any]) -> TimeAxis:
    """Where a tensor holds time once a current is written to it, seen by what becomes of the numbers of steps."""
    axis = time_axis_of(x)
    if axis is not None or op.time_steps == 1:
        return axis or TimeAxis(0)
    steps = torch.full(x.shape, -1.0, device=x.device)
    follow(steps, op.time.along(value.shape, op.axis(value), value).contiguous())
    found = op.time.found_in(steps)
    if found is None:
        raise op.refusal("that tears time steps apart")
    return found
