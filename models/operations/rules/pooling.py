"""Pooling of images and sequences, [T·B, C, ...]: means are linear, the largest entry is a decision."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from las_sj.models.operations.operation import Operation
from las_sj.models.operations.registry import composite, rule

_MAXIMA = {
    "max_pool1d": F.max_pool1d,
    "max_pool2d": F.max_pool2d,
    "max_pool3d": F.max_pool3d,
    "adaptive_max_pool1d": F.adaptive_max_pool1d,
    "adaptive_max_pool2d": F.adaptive_max_pool2d,
    "adaptive_max_pool3d": F.adaptive_max_pool3d,
}


@rule(
    """
    avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d interpolate
    upsample upsample_nearest2d upsample_bilinear2d fold pixel_shuffle pixel_unshuffle channel_shuffle grid_sample
    """
)
def linear_pooling(op: Operation, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Means with constant weights, or another order of channels and positions."""
    axis = op.axis(input)
    if op.time_steps > 1 and axis.axis != 0:
        raise op.refusal("without a batch first")
    if any(op.is_current(x) for x in (*args, *kwargs.values())):
        raise op.refusal("at places that are currents")
    return op.current(op.function(input, *args, **kwargs), axis)


@rule(*_MAXIMA)
def max_pooling(op: Operation, input: Tensor, *args: Any, return_indices: bool = False, **kwargs: Any) -> Any:
    """The entry of each window whose sum over T is largest."""
    axis = op.axis(input)
    if op.time_steps > 1 and axis.axis != 0:
        raise op.refusal("without a batch first")
    op.decided()
    _, index = _MAXIMA[op.name](op.total(input), *args, **kwargs, return_indices=True)  # type: ignore[operator]
    index = op.repeat(index, axis)
    values = input.flatten(2).gather(2, index.flatten(2)).view(index.shape)
    values = op.current(values, axis)
    return (values, index) if return_indices else values


@composite("max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices")
def with_indices(input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """The pooling of as many dimensions, with places."""
    return (F.max_pool1d, F.max_pool2d, F.max_pool3d)[input.dim() - 3](input, *args, **kwargs, return_indices=True)
