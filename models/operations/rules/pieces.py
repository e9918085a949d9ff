"""Functions that put currents and constants together: concatenation, and choices between them by constants."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from las_sj.models.operations.operation import Operation
from las_sj.models.operations.registry import composite, rule
from las_sj.models.operations.time_axis import TimeAxis


@rule("cat", "concat", "concatenate")
def cat(op: Operation, tensors: Sequence[Tensor], dim: int = 0, **kwargs: Any) -> Tensor:
    """Currents and shares of constants, one after another; along the batch, those of each step."""
    dim = kwargs.get("axis", dim)
    first = next(x for x in tensors if op.is_current(x))
    axis, dim = op.axis(first), dim % first.dim()
    parts = [op.addend(x) for x in tensors if x.dim() == first.dim()]
    if dim != axis.axis or op.time_steps == 1:
        room = op.room(*parts) if len(parts) == 1 else None  # the first keys of a cache
        return op.current(torch.cat(parts, dim) if room is None else room.copy_(parts[0]), axis)
    if axis.steps:
        return op.current(torch.cat(parts, dim), _in_order(op, tensors, axis))
    if axis.outer > 1 or any(len(x.shape) and x.shape[dim] % op.time_steps for x in parts):
        raise op.refusal("along time")
    joined = torch.cat([op.time.apart(x, axis) for x in parts], dim + 2)
    return op.current(op.time.joined(joined, axis), axis)


def _in_order(op: Operation, tensors: Sequence[Tensor], axis: TimeAxis) -> TimeAxis:
    """Where the parts of a current hold time that was split in another order of its steps, as they come together."""
    axes = [op.axis(x) if op.is_current(x) else TimeAxis(-1) for x in tensors]
    if any(
        other.axis != axis.axis or len(other.steps) != x.shape[axis.axis]
        for other, x in zip(axes, tensors, strict=True)
    ):
        raise op.refusal("along time")
    return axis._replace(steps=tuple(step for other in axes for step in other.steps))


@rule("stack")
def stack(op: Operation, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Currents and shares of constants along a new dimension."""
    first = next(x for x in tensors if op.is_current(x))
    axis, dim = op.axis(first), dim % (first.dim() + 1)
    output = torch.stack([op.addend(x) for x in tensors], dim)
    return op.current(output, axis.at(axis.axis + (dim <= axis.axis)))


@composite("hstack")
def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Along the second dimension."""
    return torch.cat(list(tensors), 1 if tensors[0].dim() > 1 else 0)


@composite("vstack")
def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Along the first dimension."""
    return torch.cat([torch.atleast_2d(x) for x in tensors], 0)


@composite("broadcast_tensors")
def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All in the shape that they have together."""
    shape = torch.broadcast_shapes(*(x.shape for x in tensors))
    return tuple(x.expand(shape) for x in tensors)


@rule("where")
def where(op: Operation, condition: Tensor, *values: Any, **kwargs: Any) -> Tensor:
    """A choice by a constant between currents and shares of constants; as a method, of the second argument."""
    if condition.dtype != torch.bool:
        condition, values = values[0], (condition, *values[1:])
    a, b = (op.addend(value) for value in (*values, *kwargs.values()))
    output = torch.where(condition, a, b)
    return op.current(output, op.aligned(output.dim(), (*values, *kwargs.values())))


@rule("masked_fill")
def masked_fill(op: Operation, x: Tensor, mask: Tensor, value: Any) -> Tensor:
    """The share of a constant where a mask is set."""
    if op.is_current(mask) or op.is_current(value):
        raise op.refusal("by a current")
    output = torch.where(mask, torch.as_tensor(op.share(value), dtype=x.dtype, device=x.device), x)
    return op.current(output, op.aligned(output.dim(), [x]))


@rule("pad", "constant_pad_nd")
def pad(
    op: Operation, x: Tensor, pad: Sequence[int], mode: Any = "constant", value: Any = None, **kwargs: Any
) -> Tensor:
    """The ends of dimensions get the share of a constant, or copies of what is there."""
    if not isinstance(mode, str):
        mode, value = "constant", mode
    axis = op.axis(x)
    if op.time_steps > 1 and any(pad[2 * (x.dim() - 1 - axis.axis) :][:2]):
        raise op.refusal("along time")
    if mode != "constant":
        return op.current(F.pad(x, list(pad), mode), axis)
    return op.current(F.pad(x, list(pad), value=op.share(value or 0.0)), axis)
