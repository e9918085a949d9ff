"""What a convolution multiplies, counted at its edges too: padding has no synapses."""

from typing import Any

import torch
from torch import Tensor


def convolution_synapses(arguments: tuple[Any, ...], live: Tensor | None = None) -> int:
    """Multiplications in a convolution of all values of its input, or of the live ones: one a weight that each meets.

    Args:
        arguments: of `aten::convolution`: input, weight, bias, stride, padding, dilation, whether it is transposed,
            output padding, groups.
        live: bool, of the input's shape; None: all values.
    """
    x, weight, _, *settings = arguments
    live = torch.ones_like(x, dtype=torch.bool) if live is None else live
    reached = torch.ops.aten.convolution(live.double(), torch.ones_like(weight, dtype=torch.double), None, *settings)
    return int(reached.sum())


def weight_synapses(arguments: tuple[Any, ...], live: Tensor) -> int:
    """Multiplications in a convolution that the live ones (bool) among its weights take part in."""
    x, _, _, *settings = arguments
    ones = torch.ones_like(x, dtype=torch.double)
    return int(torch.ops.aten.convolution(ones, live.double(), None, *settings).sum())
