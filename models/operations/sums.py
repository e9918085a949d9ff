"""What a call of a model that is converted by operations returns: currents summed over T."""

from typing import Any

from torch import Tensor
from transformers.utils import ModelOutput

from las_sj.models.operations.state import KeptState, is_state
from las_sj.models.operations.time_axis import OneStep, time_axis_of


def summed(output: Any, state: KeptState) -> Any:
    """The sum over T of every current in `output`; constants, and what is neither, as they are.

    Args:
        output: of the call.
        state: of the call, which caches that it made are put to.
    """
    if isinstance(output, Tensor):
        axis = time_axis_of(output)
        return output if axis is None or isinstance(axis, OneStep) else state.summed(output)
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
