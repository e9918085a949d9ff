"""What processes that share a model tell each other of its currents."""

from typing import Any

import torch.distributed as dist
from torch import Tensor

from las_sj.models.operations.operation import Operation
from las_sj.models.operations.registry import rule


@rule("all_reduce")
def all_reduce(operation: Operation, /, tensor: Tensor, op: Any = None, group: Any = None, **kwargs: Any) -> Any:
    """The sum over all processes, in place; another reduction is refused."""
    if op not in (None, dist.ReduceOp.SUM):
        raise operation.refusal("but for sums")
    return operation.function(tensor, group=group, **kwargs)
