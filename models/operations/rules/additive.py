"""Sums: a constant that is added to a current is shared over the time steps."""

from typing import Any

import torch
from torch import Tensor

from las_sj.models.operations.operation import Operation
from las_sj.models.operations.registry import composite, rule


@rule("add", "__add__", "__radd__", "__iadd__")
def add(op: Operation, input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """a + α·b."""
    first, second = op.addend(input), op.addend(other)
    room = op.room(first, second) if alpha == 1 else None
    if room is None:
        output: Tensor = first + (second if alpha == 1 else alpha * second)
    else:
        output = torch.add(first, second, out=room)
    return op.current(output, op.aligned(output.dim(), (input, other)))


@rule("sub", "subtract", "__sub__", "__isub__")
def sub(op: Operation, input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """a − α·b."""
    first, second = op.addend(input), op.addend(other)
    output: Tensor = first - (second if alpha == 1 else alpha * second)
    return op.current(output, op.aligned(output.dim(), (input, other)))


@composite("rsub", "__rsub__")
def rsub(input: Any, other: Any, alpha: float = 1) -> Any:
    """b − α·a."""
    return torch.add(-input * alpha, other)


@composite("addcmul")
def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, value: float = 1) -> Tensor:
    """input + value·tensor1·tensor2."""
    return input + tensor1 * tensor2 * value


@composite("addcdiv")
def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, value: float = 1) -> Tensor:
    """input + value·tensor1/tensor2."""
    return input + tensor1 / tensor2 * value


@composite("lerp")
def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """input + weight·(end − input)."""
    return input + (end - input) * weight


@composite("baddbmm", "addbmm", "addmm", "addmv")
def add_product(input: Tensor, *factors: Tensor, beta: float = 1, alpha: float = 1, **named: Tensor) -> Tensor:
    """β·input + α·a·b."""
    a, b = (*factors, *named.values())
    product = torch.matmul(a, b) * alpha
    return product if beta == 0 else input * beta + product
