"""How many synapses each spike of an operation's operand comes to, and the multiply-accumulates of the original."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Reach:
    """Of the neurons of one operand in one window.

    Attributes:
        synapses: of each neuron: one number, or int64, broadcastable to a window [B, ...].
        macs: multiply-accumulates of the original; None: one a synapse.
    """

    synapses: Tensor | int
    macs: int | None = None


def of_operand(x: Tensor, multiplications: int, is_counted: bool = True) -> Reach:
    """Of an operand whose numbers all meet as many others, where there are so many multiplications at one time step.

    The multiplications of a product are counted with one of its operands.
    """
    synapses = multiplications // max(x.numel(), 1)
    return Reach(synapses, None if is_counted else 0)


def of_matmul(a: Sequence[int], b: Sequence[int]) -> int:
    """Multiplications of a matrix product of such shapes."""
    if len(a) == 1 or len(b) == 1:
        return prod(a) if len(b) == 1 else prod(b)
    return prod(torch.broadcast_shapes(a[:-2], b[:-2])) * a[-2] * a[-1] * b[-1]


def of_einsum(equation: str, operands: Sequence[Tensor]) -> int:
    """Multiplications of a sum of products; what one operand alone is summed over is summed before."""
    terms, _, output = equation.replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    uses: dict[str, int] = {}
    for term, operand in zip(terms.split(","), operands, strict=True):
        for letter, size in _letters(term, operand):
            sizes[letter] = max(size, sizes.get(letter, 1))
            uses[letter] = uses.get(letter, 0) + 1
    return prod(size for letter, size in sizes.items() if uses[letter] > 1 or letter in output or not letter.isalpha())


def _letters(term: str, operand: Tensor) -> list[tuple[str, int]]:
    """The letters of an operand with the sizes that they stand for; dots are counted from their end."""
    before, dots, after = term.partition("...")
    covered = operand.dim() - len(before) - len(after) if dots else 0
    names = [*before, *(str(place - covered) for place in range(covered)), *after]
    return list(zip(names, operand.shape, strict=True))


def of_convolution(
    function: Callable[..., Tensor], x: Tensor, weight: Tensor, arguments: tuple[Any, ...], named: dict[str, Any]
) -> Reach:
    """Of the input of a convolution [B, C, ...]: at its edges neurons have fewer synapses.

    The original multiplies the zeros around its input too.

    Args:
        function: the convolution, of torch.
        x, weight: its input at one time step, and its kernels.
        arguments, named: what follows the bias.
    """
    with torch.enable_grad():
        ones = torch.ones_like(x[:1], dtype=torch.float32).requires_grad_()
        output = function(ones, torch.ones_like(weight, dtype=torch.float32), None, *arguments, **named)
        (synapses,) = torch.autograd.grad(output.sum(), ones)
    is_transposed = "transpose" in function.__name__
    positions = prod((x if is_transposed else output).shape[2:])
    return Reach(synapses.round().long(), len(x) * positions * weight.numel())
