"""A half-precision model computed in single precision without a copy of it: weights are widened as they are used."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from las_sj.neurons.precision import HALF, at_least_single, single


@contextmanager
def in_single_precision(model: nn.Module) -> Iterator[None]:
    """Within this context calls of a half-precision model compute in fp32; other models run as they are.

    Each weight is widened for one operation, so that memory for the largest of them is all that it takes.
    """
    if dtype_of(model) not in HALF:
        yield
        return
    with _Widening():
        yield


def dtype_of(model: nn.Module) -> torch.dtype:
    """The type of a model's first floating-point parameter; that of new tensors where there is none."""
    floats = (parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    return next(floats, torch.get_default_dtype())


class _Widening(TorchFunctionMode):
    """Gives each function of torch fp32 in the place of half precision: tensors, and the types that it is asked for."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") == "__get__" or func is F.embedding:  # no copies of whole weights
            return _widened(func(*args, **(kwargs or {})), func)
        return _widened(func(*_each(args), **_each(kwargs or {})), func)


def _widened(result: Any, func: Callable[..., Any]) -> Any:
    """What a function returned; a weight stays what it is where it is only looked at."""
    looked_at = getattr(func, "__name__", "") == "__get__" and isinstance(result, Tensor)
    return result if looked_at else _each(result)


def _each(value: Any) -> Any:
    """fp32 in the place of half precision, in nested arguments."""
    if isinstance(value, Tensor):
        return single(value) if value.dtype in HALF else value
    if isinstance(value, torch.dtype):
        return at_least_single(value)
    if type(value) in (tuple, list):
        return type(value)(map(_each, value))
    if type(value) is dict:
        return {name: _each(item) for name, item in value.items()}
    return value
