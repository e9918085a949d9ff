"""Half precision holds values; what is summed up or divided is at least in single precision."""

from collections.abc import Callable

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


def at_least_single(dtype: torch.dtype) -> torch.dtype:
    """fp32 for half precision, and any other type as it is."""
    return torch.float32 if dtype in HALF else dtype


def single(x: Tensor) -> Tensor:
    """`x` in single precision at least."""
    return x.to(at_least_single(x.dtype))


def keeping_precision(move: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`move`, as `nn.Module._apply` is given it, without rounding to half precision: that is for values."""

    def moved(tensor: Tensor) -> Tensor:
        result = move(tensor)
        return tensor.to(result.device) if result.dtype in HALF else result

    return moved
