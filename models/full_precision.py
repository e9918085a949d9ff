"""Autocast is off inside of a converted model: its codes need the precision of its weights and thresholds."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from las_sj.models.inputs import is_value


def full_precision(model: nn.Module, named: dict[str, Any]) -> AbstractContextManager[Any]:
    """Within this context autocast is off.

    Args:
        model: that runs in it.
        named: its arguments; those that come from where autocast was on are brought to the precision of the model.
    """
    source = next((value for value in named.values() if isinstance(value, Tensor)), None)
    device = "cpu" if source is None else source.device.type
    available = torch.compiler.is_compiling() or torch.amp.is_autocast_available(device)  # which compilers cannot ask
    if not available or not torch.is_autocast_enabled(device):
        return nullcontext()
    weight = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), None)
    for name, value in named.items():
        if weight is not None and is_value(name) and isinstance(value, Tensor):
            named[name] = value.to(weight.dtype)
    return torch.autocast(device, enabled=False)
