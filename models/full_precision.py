"""Autocast is off inside of a converted model: its codes need the precision of its weights and thresholds."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from las_sj.models.inputs import is_value


def in_full_precision(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The forward method of a model, without autocast, which accelerate sets around the method, not around the call.

    Inputs that come from where it was on are brought to the precision of the model.
    """

    @wraps(forward)
    def run(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
        source = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
        device = "cpu" if source is None else source.device.type
        if not torch.is_autocast_enabled(device):
            return forward(model, *args, **kwargs)
        weight = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), None)
        for name, value in kwargs.items():
            if weight is not None and is_value(name) and isinstance(value, Tensor):
                kwargs[name] = value.to(weight.dtype)
        with torch.autocast(device, enabled=False):
            return forward(model, *args, **kwargs)

    return run
