"""Outputs of a vision tower that were made before a call: `generate` encodes images only once."""

from typing import Any

from torch import Tensor
from transformers.utils import ModelOutput

FEATURES = "pooler_output"  # what enters the language model: a tensor, or one tensor for each image


def repeat_encoded(output: ModelOutput, time_steps: int) -> ModelOutput:
    """Features as constant currents, repeated T times, t-major; nothing else of the output is read."""
    features = output[FEATURES]
    if isinstance(features, Tensor):
        repeated: Any = (features / time_steps).repeat(time_steps, *[1] * (features.dim() - 1))
    else:
        repeated = [feature / time_steps for feature in features] * time_steps
    return type(output)(**{FEATURES: repeated})


def sum_encoded(output: ModelOutput | None, time_steps: int) -> ModelOutput | None:
    """The inverse: sums over T of everything that a vision tower returned in a temporal call."""
    if output is None:
        return None
    return type(output)(**{key: _sum(value, time_steps, key == FEATURES) for key, value in output.items()})


def _sum(value: Any, time_steps: int, of_images: bool) -> Any:
    if isinstance(value, Tensor):
        summable = value.is_floating_point() and value.dim() > 0 and len(value) % time_steps == 0
        return value.unflatten(0, (time_steps, -1)).sum(0) if summable else value
    if not isinstance(value, tuple | list):
        return value
    if not of_images:  # hidden states, layer by layer
        return type(value)(_sum(item, time_steps, False) for item in value)
    images = len(value) // time_steps
    return [sum(value[image::images][1:], start=value[image]) for image in range(images)]
