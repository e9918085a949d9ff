"""Dropout in a temporal call: one mask for the window. A new one at each step would drop next to nothing of the sum."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from las_sj.models.call import innermost


class _OneMask(TorchFunctionMode):
    """Sees each dropout of modelling code, also of `nn.Dropout`.

    Args:
        time_steps: T.
    """

    def __init__(self, time_steps: int) -> None:
        super().__init__()
        self.time_steps = time_steps

    def __torch_function__(self, func: Any, types: Iterable[Any], args: Any = (), kwargs: Any = None) -> Any:
        call = innermost()
        if func is F.dropout and call is not None and call.temporal:
            return self._drop(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _drop(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or len(x) % self.time_steps:
            return F.dropout(x, p, training, inplace)
        mask = kept(x[: len(x) // self.time_steps], p)
        mask = mask.repeat(self.time_steps, *[1] * (x.dim() - 1))
        return x.mul_(mask) if inplace else x * mask


def kept(x: Tensor, p: float) -> Tensor:
    """The factors of dropout for `x`: 0 with probability p, else 1/(1 − p). The ANN draws the same from one seed."""
    return torch.dropout(torch.ones_like(x), p, True)


def one_mask_a_window(model: nn.Module, time_steps: int, temporal: bool) -> AbstractContextManager[Any]:
    """Within this context dropouts of a temporal call of `model` have one mask for each window.

    Args:
        model: which may be in training, or in evaluation, where nothing is dropped.
        time_steps: T.
        temporal: whether the call is.
    """
    training = temporal and any(module.training for module in model.modules())
    return _OneMask(time_steps) if training else nullcontext()
