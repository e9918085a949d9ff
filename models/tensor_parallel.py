"""Models that several processes share, each layer among them, by a tensor-parallel plan of transformers."""

import torch
from torch import nn


def processes_of(model: nn.Module) -> int:
    """How many processes share each call of a model; 1 where it is whole."""
    return int(getattr(model, "tp_size", None) or 1)


def refuse_parts(model: nn.Module, what: str) -> None:
    """Raise a ValueError where a process has only a part of the neurons.

    Args:
        model: the model.
        what: cannot be done with it.
    """
    processes = processes_of(model)
    if processes > 1:
        raise ValueError(
            f"{what} needs a whole model, and each of {processes} processes has a part of this one: "
            "load it without a tensor-parallel plan"
        )


def check_shared_call(model: nn.Module) -> None:
    """Raise a RuntimeError where a call of a model that processes share would fail within torch.

    Args:
        model: that is called.
    """
    if processes_of(model) > 1 and torch.is_grad_enabled():
        raise RuntimeError(
            "a converted model that processes share by a tensor-parallel plan has no gradients: "
            "call it within torch.no_grad()"
        )
