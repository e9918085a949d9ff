"""What a temporal call of a model that is converted by operations returns: currents summed over T."""

from typing import Any

from torch import Tensor
from transformers.utils import ModelOutput

from las_sj.models.operations.time_axis import OneStep, Timeline, time_axis_of


def summed(output: Any, time_steps: int) -> Any:
    """The sum over T of every current in `output`; constants, and what is neither, as they are."""
    if isinstance(output, Tensor):
        axis = time_axis_of(output)
        whole = axis is None or isinstance(axis, OneStep)
        return output if whole else Timeline(time_steps).total(output, axis)
    if isinstance(output, ModelOutput):
        for key, value in output.items():
            output[key] = summed(value, time_steps)
        return output
    if type(output) in (tuple, list):
        if output and all(isinstance(time_axis_of(item), OneStep) for item in output):
            rows = len(output) // time_steps  # parts of the batch, step by step
            return type(output)(sum(output[row + rows :: rows], start=output[row]) for row in range(rows))
        return type(output)(summed(item, time_steps) for item in output)
    if type(output) is dict:
        return {key: summed(item, time_steps) for key, item in output.items()}
    return output
