"""How well HG neurons fit their functions, Figure 4 of the LAS paper: a Markdown table, and a picture of the gelu fit.

Usage: python benchmarks/tables/hg_fits.py [--time-steps 16] [--lines N] [--picture FILE]
"""

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from las_sj.neurons import FUNCTIONS, HGNode
from las_sj.neurons.fitting import fit_grid, fit_octaves
from las_sj.neurons.functions import GridFunction, HGFunction
from las_sj.neurons.line_budget import fit_grid_within

_POINTS = 400_001
_COLUMNS = (
    "function",
    "range",
    "sub-neurons",
    "lines",
    "proven bound",
    "proven relative bound",
    "error in the range",
    "relative error in the range",
    "error right outside",
    "fit (ms)",
)


@dataclass(frozen=True)
class Row:
    """Errors are the largest measured in fp64; `nan` where one does not apply."""

    node: HGNode
    error: float
    relative_error: float
    error_outside: float
    fit_seconds: float

    def cells(self) -> list[str]:
        node, is_grid = self.node, isinstance(self.node.function, GridFunction)
        is_absolute = is_grid or not math.isfinite(node.relative_bound)  # of a power over 40 octaves it says nothing
        span = f"{node.low:g} … {node.high:g}" if is_grid else _octave_range(node)
        return [
            node.function.name,
            span,
            f"{node.sub_neurons}",
            f"{node.stored_lines}",
            _number(node.bound if is_absolute else math.nan),
            _number(node.relative_bound),
            _number(self.error if is_absolute else math.nan),
            _number(self.relative_error),
            _number(self.error_outside) + ("" if is_absolute else " (relative)"),
            f"{self.fit_seconds * 1e3:.1f}",
        ]


def _number(value: float) -> str:
    return f"{value:.1e}" if math.isfinite(value) else "–"


def _octave_range(node: HGNode) -> str:
    sign = "±" if getattr(node.function, "even", False) else ""
    return f"{sign}(2^{math.log2(node.low):g} … 2^{math.log2(node.high):g})"


def _inside(node: HGNode) -> Tensor:
    if isinstance(node.function, GridFunction):
        return torch.linspace(node.low, node.high, _POINTS, dtype=torch.float64)
    octaves = torch.linspace(math.log2(node.low), math.log2(node.high), _POINTS, dtype=torch.float64)
    return torch.exp2(octaves)


def _right_outside(node: HGNode) -> Tensor:
    """A grid function: as far again beyond each end that has a tail; a power: two octaves beyond each end."""
    function = node.function
    if not isinstance(function, GridFunction):
        octaves = torch.linspace(0, 2, _POINTS // 2, dtype=torch.float64)
        return torch.cat([node.low * torch.exp2(-octaves), node.high * torch.exp2(octaves)])
    sides, reach = [torch.empty(0, dtype=torch.float64)], node.high - node.low
    if function.below is not None:
        sides.append(torch.linspace(node.low - reach / 2, node.low, _POINTS // 2, dtype=torch.float64))
    if function.above is not None:
        sides.append(torch.linspace(node.high, node.high + reach / 2, _POINTS // 2, dtype=torch.float64))
    return torch.cat(sides)


def measure(function: HGFunction, time_steps: int, lines: int | None) -> Row:
    """Fit and measure one function, with its default range."""
    for fit in (fit_grid, fit_octaves, fit_grid_within):
        fit.cache_clear()
    start = time.perf_counter()
    node = HGNode(function.name, time_steps, lines=lines)
    fit_seconds = time.perf_counter() - start
    x, outside = _inside(node), _right_outside(node)
    exact = function.exact(x)
    error, error_outside = (node(x) - exact).abs(), (node(outside) - function.exact(outside)).abs()
    is_relative = math.isfinite(node.relative_bound)
    if is_relative and not isinstance(function, GridFunction):
        error_outside /= function.exact(outside).abs()
    relative_error = float((error / exact.abs()).max()) if is_relative else math.nan
    return Row(
        node, float(error.max()), relative_error, float(error_outside.max()) if len(outside) else math.nan, fit_seconds
    )


def table(time_steps: int, lines: int | None) -> str:
    """All functions, in Markdown."""
    measure(FUNCTIONS["gelu"], time_steps, lines)  # the first fit pays for torch's start
    rows = [_COLUMNS, ["---"] * len(_COLUMNS), *(measure(f, time_steps, lines).cells() for f in FUNCTIONS.values())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def draw(path: Path, time_steps: int) -> None:
    """gelu by its HG neuron, with the break points, and the error below it."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    node = HGNode("gelu", time_steps)
    x = torch.linspace(node.low - 2, node.high + 2, 20_001, dtype=torch.float64)
    y, exact = node(x), node.function.exact(x)
    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, figsize=(8, 6), height_ratios=(2, 1), layout="constrained")
    top.plot(x, exact, color="0.7", linewidth=5, label="gelu")
    top.plot(x, y, color="C0", linewidth=1, label=f"HG neuron, T = {time_steps}, {node.sub_neurons} sub-neurons")
    breaks = node.gates.fit.lines.start
    top.plot(breaks, torch.full_like(breaks, -0.6), "|", color="C1", markersize=6, label="break points")
    top.set_ylabel("output")
    top.legend()
    bottom.plot(x, y - exact, color="C0", linewidth=0.5)
    bottom.axhline(node.bound, color="C3", linestyle="--", linewidth=1, label=f"proven bound, ±{node.bound:.1e}")
    bottom.axhline(-node.bound, color="C3", linestyle="--", linewidth=1)
    bottom.axvspan(node.low, node.high, color="0.95", zorder=0, label="range")
    bottom.set_xlabel("input")
    bottom.set_ylabel("error")
    bottom.set_ylim(-1.2 * node.bound, 1.8 * node.bound)
    bottom.legend(loc="upper left", ncols=2)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time-steps", type=int, default=16, help="T, 1 … 24 (default: 16)")
    parser.add_argument(
        "--lines", type=int, metavar="N", help="that a population may store (what the tolerance asks for)"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="save a picture of the gelu fit")
    arguments = parser.parse_args()
    print(table(arguments.time_steps, arguments.lines))
    if arguments.picture is not None:
        draw(arguments.picture, arguments.time_steps)


if __name__ == "__main__":
    main()
