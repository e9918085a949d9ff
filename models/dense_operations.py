"""Operations without neurons, counted while somebody watches: on currents, and products of constants with weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

_PRODUCTS = frozenset({"matmul", "__matmul__", "__rmatmul__", "bmm", "mm", "mv", "addmm", "baddbmm", "einsum"})
_PRODUCTS |= {"scaled_dot_product_attention", "multi_head_attention_forward"}
_SUMS = frozenset({"sum", "nansum", "mean", "nanmean", "cumsum", "avg_pool1d", "avg_pool2d", "avg_pool3d"})
_SUMS |= {"adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"}
_MEANS = _SUMS - {"sum", "nansum", "cumsum"}
_ADDITIONS = frozenset({"add", "__add__", "__radd__", "__iadd__", "sub", "subtract", "__sub__", "__isub__"})
_ADDITIONS |= {"rsub", "__rsub__", "index_add", "scatter_add"}
_SCALINGS = frozenset({"mul", "multiply", "__mul__", "__rmul__", "__imul__", "div", "divide", "true_divide"})
_SCALINGS |= {"__truediv__", "__itruediv__"}
_BIASES = frozenset(
    {"linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}
)
_PRODUCTS |= _BIASES


@dataclass
class DenseCounts:
    """Of one time step.

    Attributes:
        additions: of currents, and of constants to them.
        scalings: multiplications of currents by constants.
    """

    additions: float = 0.0
    scalings: float = 0.0


class DenseOperations:
    """Counts by module and function.

    Attributes:
        counts: of currents, by the full name of the module and the name of the function.
        macs: multiply-accumulates of constants alone, of whole calls, by the same.
    """

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], DenseCounts] = {}
        self.macs: dict[tuple[str, str], float] = {}

    def run_on_constants(
        self,
        place: tuple[str, str],
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        named: dict[str, Any],
        repetitions: int,
    ) -> Any:
        """Call a torch function with constants alone; count what it multiplies, as the original does.

        Args:
            place: module and function.
            function: the torch function.
            arguments, named: of it.
            repetitions: how often a call repeats it for the sake of its time steps.
        """
        if place[1] not in _PRODUCTS:
            return function(*arguments, **named)
        with FlopCounterMode(display=False) as counter:
            output = function(*arguments, **named)
        self.macs[place] = self.macs.get(place, 0.0) + counter.get_total_flops() / 2 / repetitions
        return output

    def add(
        self,
        place: tuple[str, str],
        arguments: tuple[Any, ...],
        named: dict[str, Any],
        output: Any,
        is_current: Callable[[Any], bool],
        share: float,
    ) -> None:
        """Count one call of a torch function.

        Args:
            place: module and function.
            arguments, named: of the function.
            output: what it returned.
            is_current: tells currents from constants.
            share: of the numbers that belong to one time step, and to tokens that are no padding.
        """
        function, found = place[1], DenseCounts()
        if not isinstance(output, Tensor):
            return
        if function in _ADDITIONS or (function in _BIASES and _has_bias(arguments, named)):
            found.additions = output.numel() * share
        elif function in _SUMS and isinstance(arguments[0], Tensor):
            found.additions = arguments[0].numel() * share
            found.scalings = output.numel() * share if function in _MEANS else 0.0
        elif function in _SCALINGS and not all(map(is_current, (*arguments[:2], *named.values()))):
            found.scalings = output.numel() * share
        if found.additions or found.scalings:
            known = self.counts.setdefault(place, DenseCounts())
            known.additions += found.additions
            known.scalings += found.scalings


def _has_bias(arguments: tuple[Any, ...], named: dict[str, Any]) -> bool:
    return (arguments[2] if len(arguments) > 2 else named.get("bias")) is not None
