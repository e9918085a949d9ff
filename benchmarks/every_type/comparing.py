"""What an ANN and its spiking network return, compared."""

from typing import Any

import torch
from torch import Tensor

EXECUTIONS = ("accumulated", "temporal")
LIMIT = 1e-3  # of ‖SNN − ANN‖/‖ANN‖


def first_output(output: Any) -> Tensor:
    """What is compared of a model's output: its logits, or the first floats of it.

    Raises:
        ValueError: there are none.
    """
    if isinstance(output, Tensor):
        return output.float()
    named = [getattr(output, name, None) for name in ("logits", "prediction_logits", "last_hidden_state")]
    rest = list(output.values() if isinstance(output, dict) else output)
    for value in (*named, *rest):
        value = value[0] if isinstance(value, tuple | list) and value else value
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.float()
    raise ValueError("the model returns no floats")


def difference(output: Tensor, expected: Tensor) -> float:
    """‖SNN − ANN‖/‖ANN‖."""
    return float((output - expected).norm() / expected.norm().clamp(min=1e-12))


def with_floats_of(batch: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """A batch with its floats in another type."""
    return {
        name: value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in batch.items()
    }
