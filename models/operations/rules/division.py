"""Division by currents: reciprocals by HG neurons, of magnitudes where signs differ, and powers."""

from typing import Any

import torch
from torch import Tensor

from las_sj.models.operations.operation import Operation
from las_sj.models.operations.registry import composite, rule
from las_sj.models.operations.rules.products import before_weights, product_of_both
from las_sj.models.operations.time_axis import time_axis_of

_WHOLE = 64  # the largest whole exponent that is taken by products


@rule("div", "divide", "true_divide", "__truediv__", "__itruediv__")
def div(op: Operation, input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """a/b; of a current b by its reciprocal, and a product."""
    if rounding_mode is not None:
        raise op.refusal("with rounding")
    if not op.is_current(other):
        output: Tensor = before_weights(op, input, other) / other
        return op.current(output, op.aligned(output.dim(), (input,)))
    inverse = _inverse(op, other, "reciprocal")
    if op.is_current(input):
        return product_of_both(op, input, inverse)
    output = input * op.code(inverse, "right", "product")
    return op.current(output, op.aligned(output.dim(), (inverse,)))


@rule("reciprocal")
def reciprocal(op: Operation, input: Tensor) -> Tensor:
    """1/x."""
    return _inverse(op, input, "")


def _inverse(op: Operation, x: Tensor, role: str) -> Tensor:
    """1/x for x > 0; where some are negative, that of the magnitude, with a sign that the sum over T decides."""
    if not _is_signed(op, x):
        return op.fire("reciprocal", x, role)
    op.decided()
    axis = op.axis(x)
    sign = op.repeat(torch.where(op.total(x) < 0, -1.0, 1.0).to(x.dtype), axis)
    return op.current(op.fire("reciprocal", op.current(x * sign, axis), "magnitude") * sign, axis)


def _is_signed(op: Operation, x: Tensor) -> bool:
    """Whether some were negative when the model was converted."""
    if f"{op.title}_magnitude" in op.populations.kinds:
        return True
    return op.scope.operated.finds and bool((op.total(x) < 0).any())


@composite("__rtruediv__", "__rdiv__")
def rdiv(input: Tensor, other: Any) -> Any:
    """b/a."""
    return torch.reciprocal(input) * other


@composite("pow", "__pow__", "float_power")
def power(input: Any, exponent: Any) -> Tensor:
    """Whole powers by products, halves by √x, others by exp and log for positive numbers."""
    if isinstance(exponent, Tensor) and (exponent.numel() > 1 or time_axis_of(exponent) is not None):
        return _of_any_exponents(input, exponent)
    exponent = float(exponent)
    whole, rest = divmod(abs(exponent), 1)
    if whole > _WHOLE or rest not in (0.0, 0.5):
        return torch.exp(torch.log(input) * exponent)
    if exponent == -0.5:
        return torch.rsqrt(input)
    if exponent < 0:
        is_even = exponent % 2 == 0  # of signs that do not matter
        return power(torch.reciprocal(torch.square(input) if is_even else input), -exponent / (1 + is_even))
    if not rest:
        return _whole_power(input, int(whole))
    return torch.sqrt(input) * _whole_power(input, int(whole)) if whole else torch.sqrt(input)


def _whole_power(x: Tensor, exponent: int) -> Tensor:
    if exponent < 2:
        return x * 1.0 if exponent else x * 0.0 + 1.0
    half = torch.square(_whole_power(x, exponent // 2)) if exponent > 3 else torch.square(x)
    return half * x if exponent % 2 else half


def _of_any_exponents(base: Any, exponent: Any) -> Tensor:
    if not isinstance(base, Tensor):
        base = torch.as_tensor(base, dtype=exponent.dtype, device=exponent.device)
    return torch.exp(torch.log(base) * exponent)


@composite("__rpow__")
def rpower(exponent: Tensor, base: Any) -> Tensor:
    """base^exponent for a positive constant base."""
    return _of_any_exponents(base, exponent)
