"""What the operators of torch do, as far as an audit must know: which multiply, which only add, compare or move."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor

Arguments = tuple[Any, ...]


@dataclass(frozen=True)
class Product:
    """An operator that multiplies two operands.

    Args:
        first, second: positions of the operands.
        fan_out: multiplications that one number of the first, and of the second operand takes part in.
        adds: position of an argument that is added to the product, or None.
    """

    first: int
    second: int
    fan_out: Callable[[Tensor, Tensor], tuple[int, int]]
    adds: int | None = None

    def macs(self, a: Tensor, b: Tensor) -> int:
        """All multiplications."""
        return a.numel() * self.fan_out(a, b)[0]


def _matrix_fan_out(a: Tensor, b: Tensor) -> tuple[int, int]:
    return b.shape[-1] if b.dim() > 1 else 1, a.shape[-2] if a.dim() > 1 else 1


MATRIX_PRODUCTS = {
    "mm": Product(0, 1, _matrix_fan_out),
    "bmm": Product(0, 1, _matrix_fan_out),
    "mv": Product(0, 1, _matrix_fan_out),
    "dot": Product(0, 1, lambda a, b: (1, 1)),
    "addmm": Product(1, 2, _matrix_fan_out, adds=0),
    "baddbmm": Product(1, 2, _matrix_fan_out, adds=0),
}
ELEMENTWISE_PRODUCTS = {"mul": None, "div": None, "addcmul": 0, "addcdiv": 0}  # name: position of what is added

ADDITIONS = frozenset({"add", "sub", "rsub", "sum", "mean", "cumsum", "neg"})
# fmt: off
COMPARISONS = frozenset({
    "abs", "all", "amax", "amin", "any", "argmax", "argmin", "bitwise_and", "bitwise_not", "bitwise_or",
    "bucketize", "clamp", "clamp_max", "clamp_min", "eq", "ge", "gt", "isfinite", "isnan", "le", "logical_and",
    "logical_not", "logical_or", "lt", "masked_fill", "max", "maximum", "min", "minimum", "ne", "relu", "sign",
    "sort", "topk", "where",
})
MOVEMENTS = frozenset({
    "_to_copy", "_unsafe_view", "arange", "cat", "clone", "constant_pad_nd", "contiguous",
    "copy", "embedding", "empty", "empty_like", "fill", "flip", "full", "full_like", "gather", "index", "index_put",
    "index_select", "lift_fresh", "lift_fresh_copy", "masked_scatter", "new_empty", "new_empty_strided", "new_full",
    "new_ones", "new_zeros", "nonzero", "ones", "ones_like", "repeat", "repeat_interleave", "resize", "roll",
    "scalar_tensor", "scatter", "select_scatter", "set", "slice_scatter", "stack", "tril", "triu", "unique", "zero",
    "zeros", "zeros_like",
})
# fmt: on


def base_name(func: Any) -> str:
    """The operator's name without namespace, overload, and the mark of working in place."""
    name = str(func.overloadpacket).rpartition(".")[2]
    return name.rstrip("_") if not name.startswith("__") else name


def attention_macs(name: str, arguments: Arguments) -> int:
    """Multiply-accumulates of a fused attention operator (scores and values), 0 for other operators."""
    if "scaled_dot_product" not in name or "backward" in name:
        return 0
    query, key, value = arguments[:3]
    scores = prod(query.shape[:-1]) * key.shape[-2]
    return int(scores * (query.shape[-1] + value.shape[-1]))


def is_view(func: Any) -> bool:
    """Whether an operator returns another look at the numbers that it was given."""
    aliases = [result.alias_info for result in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def moves_only(func: Any, name: str, args: Arguments, kwargs: dict[str, Any]) -> bool:
    """Whether an operator only moves numbers: as they are, not turned into others on the way."""
    if is_view(func):
        return bool(func._overloadname != "dtype")  # a view in another type reads bits, not numbers
    if name not in MOVEMENTS:
        return False
    if name == "_to_copy":  # rounding to whole numbers makes an index of a value
        kind = kwargs.get("dtype")
        return kind is None or kind.is_floating_point or not args[0].is_floating_point()
    if name == "copy" and args[1].is_floating_point() and not args[0].is_floating_point():
        return False
    return not (name == "scatter" and any(isinstance(value, str) for value in (*args, *kwargs.values())))
