"""Devices that a command is told to use."""

from collections.abc import Sequence

import torch


def check_device_name(name: str) -> None:
    """Raise a ValueError where torch knows no device of that name."""
    try:
        kind = torch.device(name).type
    except RuntimeError:
        kind = "meta"
    if kind == "meta":  # has shapes and no values
        raise ValueError(f"--device must be cpu, cuda, cuda:1 or another device of torch, got {name!r}")


def check_device(name: str) -> None:
    """Raise an OSError where this machine does not have a device, or torch was built without it."""
    try:
        torch.empty(0, device=name)
    except Exception as error:  # torch has errors of many classes for this
        raise OSError(f"--device {name}: torch finds no such device on this machine, use --device cpu") from error


def check_limits(max_memory: Sequence[str]) -> None:
    """Raise an OSError where memory of a GPU is limited that this machine does not have.

    Args:
        max_memory: as `places_of` takes it.
    """
    found = torch.cuda.device_count()
    for entry in max_memory:
        device = entry.partition("=")[0]
        if device.isdecimal() and int(device) >= found:
            raise OSError(
                f"--max-memory {entry:.40}: torch finds {found} GPUs on this machine, leave out those it lacks"
            )
