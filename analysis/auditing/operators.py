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
    "addmv": Product(1, 2, _matrix_fan_out, adds=0),
    "baddbmm": Product(1, 2, _matrix_fan_out, adds=0),
    "addbmm": Product(1, 2, _matrix_fan_out, adds=0),
}
ELEMENTWISE_PRODUCTS = {"mul": None, "div": None, "addcmul": 0, "addcdiv": 0}  # name: position of what is added
FOURIER_TRANSFORMS = frozenset({"_fft_c2c", "_fft_r2c", "_fft_c2r"})  # products with a constant matrix

# fmt: off
SUMS = frozenset({"sum", "nansum", "mean", "cumsum"})  # which add all that they are given
POOLINGS = frozenset({"avg_pool1d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"})
SCALED_SUMS = frozenset({"mean", *POOLINGS})
ADDITIONS = frozenset({"add", "sub", "rsub", "neg", "index_add", "scatter_add", "col2im", "complex", *SUMS, *POOLINGS})

# What they return picks something: a place, an order, yes or no.
DECISIONS = frozenset({
    "adaptive_max_pool2d", "adaptive_max_pool3d", "all", "any", "argmax", "argmin", "argsort", "bucketize",
    "count_nonzero", "eq", "equal", "ge", "gt", "isfinite", "isinf", "isnan", "kthvalue", "le", "logical_and",
    "logical_not", "logical_or", "logical_xor", "lt", "max_pool2d_with_indices", "max_pool3d_with_indices", "median",
    "mode", "ne", "nonzero", "searchsorted", "sign", "signbit", "sort", "topk", "unique_consecutive", "unique_dim",
    "unique_dim_consecutive", "_unique", "_unique2",
})
COMPARISONS = frozenset({
    *DECISIONS, "abs", "amax", "amin", "aminmax", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "clamp",
    "clamp_max", "clamp_min", "cummax", "cummin", "masked_fill", "max", "maximum", "min", "minimum", "nan_to_num",
    "relu", "where",
})
MOVEMENTS = frozenset({
    "_to_copy", "_unsafe_view", "arange", "cat", "channel_shuffle", "clone", "constant_pad_nd", "contiguous",
    "copy", "embedding", "empty", "empty_like", "fill", "flip", "full", "full_like", "gather", "im2col", "index",
    "index_copy", "index_put", "index_select", "lift_fresh", "lift_fresh_copy", "masked_scatter", "masked_select",
    "new_empty", "new_empty_strided", "new_full", "new_ones", "new_zeros", "ones", "ones_like", "pixel_shuffle",
    "pixel_unshuffle", "reflection_pad1d", "reflection_pad2d", "repeat", "repeat_interleave", "replication_pad1d",
    "replication_pad2d", "resize", "roll", "scalar_tensor", "scatter", "select_scatter", "set", "slice_scatter",
    "stack", "take", "tril", "triu", "unique", "upsample_nearest1d", "upsample_nearest2d", "zero", "zeros",
    "zeros_like",
})
# They fill a tensor with numbers of their own: what they are given tells its shape and type.
FRESH = frozenset({
    "empty_like", "full_like", "lift_fresh", "lift_fresh_copy", "new_empty", "new_empty_strided", "new_full",
    "new_ones", "new_zeros", "ones_like", "zeros_like",
})
# A spike that they move, or a mask passes, is a spike of the same neuron and time step.
KEEPING_SPIKES = frozenset({"masked_fill", "neg", "where", *MOVEMENTS}) - FRESH - {
    "embedding", "fill", "resize", "set", "unique", "zero",
}
VIEWS_IN_PLACE = frozenset({"as_strided", "detach", "squeeze", "swapaxes", "swapdims", "t", "transpose", "unsqueeze"})
OVERWRITING = frozenset({"copy", "fill", "zero"})  # in place, everything
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
    return base_name(func) in VIEWS_IN_PLACE or any(alias is not None and not alias.is_write for alias in aliases)


def holds_fractions(tensor: Tensor) -> bool:
    """Whether numbers of its type need not be whole."""
    return tensor.is_floating_point() or tensor.is_complex()


def moves_only(func: Any, name: str, args: Arguments, kwargs: dict[str, Any]) -> bool:
    """Whether an operator only moves numbers: as they are, not turned into others on the way."""
    if is_view(func):
        return bool(func._overloadname != "dtype")  # a view in another type reads bits, not numbers
    if name not in MOVEMENTS:
        return False
    if name == "_to_copy":  # rounding to whole numbers makes an index of a value
        kind = kwargs.get("dtype")
        return kind is None or kind.is_floating_point or kind.is_complex or not holds_fractions(args[0])
    if name == "copy" and holds_fractions(args[1]) and not holds_fractions(args[0]):
        return False
    if name == "index_put":
        return not (len(args) > 3 and args[3])
    return not (name == "scatter" and any(isinstance(value, str) for value in (*args, *kwargs.values())))


def adds_at_places(name: str, args: Arguments, kwargs: dict[str, Any]) -> bool:
    """Whether an operator adds to chosen places of a tensor, in a form that other operators of its name do not have."""
    if name == "index_put":
        return len(args) > 3 and bool(args[3])
    return name == "scatter_reduce" and (kwargs.get("reduce") or args[4]) in ("sum", "mean", "amax", "amin")
