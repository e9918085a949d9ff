"""Products: of a current with a constant, and of two currents, which are coded as spikes before."""

from typing import Any

import torch
from torch import Tensor

from las_sj.models.operations.operation import Operation
from las_sj.models.operations.reach import Reach, of_einsum, of_matmul, of_operand
from las_sj.models.operations.registry import composite, rule


@rule("mul", "multiply", "__mul__", "__rmul__", "__imul__")
def mul(op: Operation, input: Any, other: Any) -> Tensor:
    """a·b: a constant scales a current as it is; where each value meets several, they are weights of its spikes.

    Of two currents, both are spikes.
    """
    if op.is_current(input) and op.is_current(other):
        return product_of_both(op, input, other)
    if op.is_current(input):
        input = before_weights(op, input, other)
    else:
        other = before_weights(op, other, input)
    output: Tensor = input * other
    return op.current(output, op.aligned(output.dim(), (input, other)))


def before_weights(op: Operation, x: Tensor, constant: Any) -> Tensor:
    """A current as spikes, where broadcasting has each of its values meet several constants; else as it is."""
    if not isinstance(constant, Tensor) or constant.dtype == torch.bool:
        return x
    if not _meets_several(x.shape, constant.shape):
        return x
    total = torch.broadcast_shapes(x.shape, constant.shape).numel()
    return op.code(x, "spread", reach=lambda: of_operand(x, total, is_counted=False))


def _meets_several(shape: torch.Size, constant: torch.Size) -> bool:
    """Whether broadcasting has each value of a current meet several constants."""
    further = any(size > 1 for size in constant[: max(len(constant) - len(shape), 0)])
    sizes = zip(reversed(shape), reversed(constant), strict=False)
    return 0 not in (*shape, *constant) and (further or any(a == 1 < b for a, b in sizes))


def product_of_both(op: Operation, a: Tensor, b: Tensor) -> Tensor:
    """a·b of two currents."""

    def reach(x: Tensor) -> Reach:
        return of_operand(x, torch.broadcast_shapes(a.shape, b.shape).numel(), is_counted=False)

    left = op.code(a, "left", "product", reach=lambda: reach(a))
    return op.product(left, op.code(b, "right", "product", reach=lambda: reach(b)))


@composite("outer", "ger")
def outer(a: Tensor, b: Tensor) -> Tensor:
    """[N] and [M] to [N, M]."""
    return a.unsqueeze(-1) * b.unsqueeze(-2)


@rule("matmul", "__matmul__", "bmm", "mm", "mv")
def matmul(op: Operation, input: Tensor, other: Any = None, *, mat2: Any = None, vec: Any = None) -> Tensor:
    """a·b: currents are spikes before."""
    a, b = input, next(x for x in (other, mat2, vec) if x is not None)
    if not op.is_current(b):
        return _with_weights(op, a, b)
    if op.is_current(a):
        return _of_currents(op, a, b)
    output = torch.matmul(a, op.code(b, "right", reach=lambda: of_operand(b, of_matmul(a.shape, b.shape))))
    axis = op.axis(b)
    if axis.axis == b.dim() - 2 and op.time_steps > 1:
        raise op.refusal("that sums over time")
    return op.current(output, op.aligned(output.dim(), (b,)))


@composite("__rmatmul__")
def rmatmul(a: Tensor, b: Tensor) -> Tensor:
    """b·a."""
    return torch.matmul(b, a)


def _with_weights(op: Operation, a: Tensor, b: Tensor) -> Tensor:
    """[..., K] spikes times constants [..., K, N]."""
    axis = op.axis(a)
    if axis.axis == a.dim() - 1 and op.time_steps > 1:
        raise op.refusal("that sums over time")
    output = torch.matmul(op.code(a, "left", reach=lambda: of_operand(a, of_matmul(a.shape, b.shape))), b)
    if b.dim() == 1:  # the last dimension goes
        return op.current(output, axis)
    return op.current(output, op.aligned(output.dim(), (a,)))


def _of_currents(op: Operation, a: Tensor, b: Tensor) -> Tensor:
    first = op.code(a, "left", "product", reach=lambda: of_operand(a, of_matmul(a.shape, b.shape)))
    second = op.code(b, "right", "product", reach=lambda: of_operand(b, of_matmul(a.shape, b.shape), False))
    dims = max(a.dim(), b.dim())
    if op.time_steps > 1 and (min(a.dim(), b.dim()) < 3 or op.aligned(dims, (a, b)).axis >= dims - 2):
        raise op.refusal("of two currents that hold time in the rows or columns")
    return op.matrix_product(first, second)


@composite("linalg_solve_triangular")
def solve_triangular(
    a: Tensor, b: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False, out: None = None
) -> Tensor:
    """The solution x of a·x = b, row by row, for ones on the diagonal of a lower triangle.

    Raises:
        NotImplementedError: another triangle.
    """
    if upper or not left or not unitriangular:
        raise NotImplementedError(
            "triangular solves but of lower triangles with ones on the diagonal have no spiking form"
        )
    b = b.expand(*a.shape[:-2], *b.shape[-2:])
    x = b[..., :1, :] * 1.0
    for row in range(1, a.shape[-1]):
        x = torch.cat((x, b[..., row : row + 1, :] - a[..., row : row + 1, :row] @ x), -2)
    return x


@rule("einsum")
def einsum(op: Operation, equation: str, *operands: Any) -> Tensor:
    """Any sum of products of one current with constants, or of two currents with constants."""
    tensors = list(operands[0]) if isinstance(operands[0], list | tuple) else list(operands)
    currents = [i for i, x in enumerate(tensors) if op.is_current(x)]
    axis = _axis_of_equation(op, equation, tensors, currents)
    if len(currents) == 1:
        current, total = tensors[currents[0]], of_einsum(equation, tensors)
        tensors[currents[0]] = op.code(current, reach=lambda: of_operand(current, total))
        return op.current(torch.einsum(equation, *tensors), axis)
    if len(currents) > 2:
        raise op.refusal("of three currents")
    total = of_einsum(equation, tensors)
    a, b = (tensors[i] for i in currents)
    coded = (
        op.code(a, "left", "product", reach=lambda: of_operand(a, total)),
        op.code(b, "right", "product", reach=lambda: of_operand(b, total, False)),
    )

    def contract(a: Tensor, b: Tensor) -> Tensor:
        full = list(tensors)
        full[currents[0]], full[currents[1]] = a, b
        return torch.einsum(equation, *full)

    return op.current(op.bilinear(contract, *coded), axis)


def _axis_of_equation(op: Operation, equation: str, tensors: list[Tensor], currents: list[int]) -> Any:
    """Where the output of an einsum holds time: the letter that stands for it in every current."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    if not arrow:
        raise op.refusal("of an equation without an output")
    letters = set()
    for i in currents:
        axis, term = op.axis(tensors[i]), inputs.split(",")[i]
        before, dots, after = term.partition("...")
        from_end = tensors[i].dim() - 1 - axis.axis
        if axis.axis < len(before) or not dots:
            letters.add((before[axis.axis], axis.at(0)))
        elif from_end < len(after):
            letters.add((after[len(after) - 1 - from_end], axis.at(0)))
        else:
            letters.add((f"dots {from_end - len(after)}", axis.at(0)))
    if op.time_steps == 1:
        return op.axis(tensors[currents[0]])
    (letter, axis), *others = letters
    if others:
        raise op.refusal("of currents that hold time in different dimensions")
    before, _, after = output.partition("...")
    dims = torch.einsum(equation, *(x.to("meta") for x in tensors)).dim()
    if letter.startswith("dots"):
        place = dims - 1 - len(after) - int(letter.split()[1])
    elif letter in before:
        place = before.index(letter)
    elif letter in after:
        place = dims - len(after) + after.index(letter)
    else:
        raise op.refusal("that sums over time")
    return axis.at(place)
