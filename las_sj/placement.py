"""Where the parts of a model are: on one device, on several, or offloaded to the CPU or to disk by accelerate."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

_HOOK = "_hf_hook"  # what accelerate attaches to a module whose weights it moves


def input_device(model: PreTrainedModel) -> torch.device:
    """The device for the inputs of a model; accelerate moves them on from there."""
    device = execution_device(model)
    return torch.device("cpu") if device is None or device.type == "meta" else device


def execution_device(module: nn.Module) -> torch.device | None:
    """Where a module computes, or None if nothing in it tells."""
    for part in module.modules():
        device = getattr(getattr(part, _HOOK, None), "execution_device", None)
        if device is not None:
            return torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
        tensor = next(part.parameters(recurse=False), None)
        if tensor is not None and tensor.device.type != "meta":
            return tensor.device
    return None


def is_offloaded(model: nn.Module) -> bool:
    """Whether some weights are fetched only while they are used."""
    return any(parameter.is_meta for parameter in model.parameters())


def weights_of(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """All parameters by name, one module's at a time: offloaded ones are fetched for as long as they are looked at."""
    for name, module in model.named_modules():
        with _fetched(module):
            for own, parameter in module.named_parameters(recurse=False):
                yield f"{name}.{own}" if name else own, parameter


def _fetched(module: nn.Module) -> AbstractContextManager[None]:
    if not hasattr(module, _HOOK):
        return nullcontext()
    from accelerate.utils import align_module_device

    return align_module_device(module)  # type: ignore[no-any-return]
