"""Modules without neurons: those that only move data, and those that make constants."""

from torch import nn

# The last: DistilBERT's loss.
_PASSIVE = (nn.Dropout, nn.Identity, nn.ModuleList, nn.Sequential, nn.CrossEntropyLoss)


def moves_data(module: nn.Module) -> bool:
    """Whether a module has no arithmetic of its own, or only moves data."""
    return isinstance(module, _PASSIVE)


def makes_constants(module: nn.Module) -> bool:
    """Whether a module returns constants, which depend on positions alone: rotary embeddings."""
    return "Rotary" in type(module).__name__


def is_passive(module: nn.Module) -> bool:
    """Whether a module computes nothing with currents: it moves them, or makes constants."""
    return moves_data(module) or makes_constants(module)
