"""What a call of a model that is converted by operations returns: currents summed over T."""

from typing import Any

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from las_sj.models.operations.one_step import later_steps
from las_sj.models.operations.state import KeptState, is_state
from las_sj.models.operations.time_axis import OneStep, time_axis_of
from las_sj.models.registry import UnsupportedModelError


def _of_all_steps(part: Tensor, time_steps: int) -> Tensor:
    """The sum over T of a part of the batch, of which the later steps are known.

    Raises:
        UnsupportedModelError: they are not.
    """
    steps = (part, *later_steps(part))
    if len(steps) != time_steps:
        raise UnsupportedModelError("the model returns a part of its batch, which has no spiking form")
    return torch.stack(steps).sum(0)


def _once(constant: Tensor, state: KeptState) -> Tensor:
    """A decision or constant, which every time step has, with the rows of one step."""
    steps = state.time.time_steps
    if steps == 1 or constant.dim() == 0 or len(constant) != state.rows:
        return constant
    each = constant.unflatten(0, (steps, -1))
    return each[0] if torch.equal(each, each[:1].expand_as(each)) else constant


def summed(output: Any, state: KeptState) -> Any:
    """The sum over T of every current in `output`; constants once; what is neither as it is.

    Args:
        output: of the call.
        state: of the call, which caches that it made are put to.
    """
    if isinstance(output, Tensor):
        axis = time_axis_of(output)
        if isinstance(axis, OneStep):
            return _of_all_steps(output, state.time.time_steps)
        return _once(output, state) if axis is None else state.summed(output)
    if is_state(output):
        return state.summed(output)
    if isinstance(output, ModelOutput):
        for key, value in output.items():
            output[key] = summed(value, state)
        return output
    if type(output) in (tuple, list):
        if output and all(isinstance(time_axis_of(item), OneStep) for item in output):
            rows = len(output) // state.time.time_steps  # parts of the batch, step by step
            return type(output)(sum(output[row + rows :: rows], start=output[row]) for row in range(rows))
        return type(output)(summed(item, state) for item in output)
    if type(output) is dict:
        return {key: summed(item, state) for key, item in output.items()}
    return output
