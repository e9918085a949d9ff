"""Processes that share experts: each has a part of the inputs of their last weights, and makes a part of each sum.

Their sum over the processes is made at once: neurons that code it later must see what they would see in one process.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard

from las_sj.models.operations.time_axis import time_axis_of

_PRODUCTS = ("bmm", "matmul", "__matmul__", "linear", "mm")


@dataclass
class PartialSums:
    """The products of experts with weights of which a process has a part.

    Args:
        weights: the shape of these weights of an expert, [C_out, C_in] of this process.
        group: of the processes.
        are_whole: whether such a product was made, and summed over the processes.
    """

    weights: torch.Size
    group: Any
    are_whole: bool = False

    def complete(self, function: str, arguments: Iterable[Any], output: Any) -> None:
        """Sum what an operation returns over the processes, in place, where it is a product with such weights.

        Args:
            function: its name.
            arguments: that it was given.
            output: what it returned.
        """
        if function in _PRODUCTS and any(self._are_parts(x) for x in arguments):
            dist.all_reduce(output, group=self.group)
            self.are_whole = True

    def _are_parts(self, x: Any) -> bool:
        return isinstance(x, Tensor) and x.shape[-2:] == self.weights and time_axis_of(x) is None


def partial_sums_of(experts: nn.Module, group: Any) -> PartialSums:
    """The partial sums of experts.

    Args:
        experts: whose weights are shared.
        group: of the processes.

    Raises:
        RuntimeError: products with weights of which a process has a part cannot be told from others.
    """
    weights = [weight for weight in experts.parameters(recurse=False) if isinstance(weight, DTensor)]
    parts = [weight for weight in weights if _is_shared_by_inputs(weight)]
    shapes = [weight.to_local().shape[-2:] for weight in weights]
    if len(parts) != 1 or shapes.count(parts[0].to_local().shape[-2:]) > 1:
        raise unknown(experts)
    return PartialSums(parts[0].to_local().shape[-2:], group)


def _is_shared_by_inputs(weight: DTensor) -> bool:
    placement = weight.placements[0]
    return type(placement) is Shard and placement.dim % weight.dim() == weight.dim() - 1


def unknown(experts: nn.Module) -> RuntimeError:
    """The error for experts whose sums over the processes nobody can make."""
    return RuntimeError(
        f"{type(experts).__name__} is not written so that processes can share its experts in a converted model: "
        "load it with device_map"
    )
