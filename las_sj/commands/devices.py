"""Devices that a command is told to use."""

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
