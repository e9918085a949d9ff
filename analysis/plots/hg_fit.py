"""HG neurons against the functions that they compute: output, sub-neurons, error and its proven bound."""

import math
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from las_sj.analysis.labels import NORMAL, SMALL, legend_above, thin
from las_sj.analysis.plots.picture import Picture
from las_sj.neurons import HGNode
from las_sj.neurons.functions import GridFunction, OctaveFunction
from las_sj.neurons.grid_gates import GridGates
from las_sj.neurons.octave_gates import OctaveGates

Array = np.ndarray[Any, Any]

_POINTS_PER_SUB_NEURON = 8
_POINTS = (2_001, 12_001)  # the fewest and the most
_SHOWN_BORDERS = 160
_EXACT, _FIT, _BORDERS, _BOUND = "#BBBBBB", "#0072B2", "#D55E00", "#B3001B"


@torch.no_grad()
def plot_hg_fit(
    function: str | HGNode,
    time_steps: int = 16,
    low: float | None = None,
    high: float | None = None,
    tolerance: float = 1e-5,
) -> Figure:
    """Draw a function and its HG neuron, and below them the error with its bound, computed in fp64.

    Args:
        function: a key of `neurons.FUNCTIONS`, or a neuron, of which only the settings are used.
        time_steps, tolerance: T and the tolerance of a neuron given by its function; a given one keeps its own.
        low, high: the inputs drawn; where None the neuron's range, of whose constant parts just the beginning. The
            range of a neuron given by its function contains them as far as the function allows.

    Returns:
        The figure: output against input, with the borders of the sub-neurons (thinned where they are many); the
        absolute error |HG(x) − f(x)|; where the tolerance is relative, also the error over |f(x)|. Inputs of powers
        are on a logarithmic axis.

    Raises:
        ValueError: an unknown function, a setting out of its range, or inputs that the neuron is not fitted to.
    """
    if isinstance(function, HGNode):
        node = HGNode(
            function.function.name,
            function.time_steps,
            function.low,
            function.high,
            function.tolerance,
            lines=function.lines,
        )
    else:
        node = HGNode(function, time_steps, low, high, tolerance)
    default_low, default_high = _interesting_range(node)
    x = _inputs(node, default_low if low is None else low, default_high if high is None else high)
    exact = node.function.exact(x)
    fitted = node.accumulated(x)
    return _draw(node, x, exact, fitted)


def _interesting_range(node: HGNode) -> tuple[float, float]:
    """The neuron's range, but of a constant tail, which masked scores stretch to −1e9, only the beginning."""
    low, high, function = node.low, node.high, node.function
    if isinstance(function, GridFunction):
        (core_low, core_high), (below, above) = function.core, (function.below, function.above)
        margin = (core_high - core_low) / 8
        low = max(low, core_low - margin) if below is not None and not below.slope else low
        high = min(high, core_high + margin) if above is not None and not above.slope else high
    return low, high


def _inputs(node: HGNode, low: float, high: float) -> Tensor:
    """Evenly spread over the drawn range, or over its octaves for powers, [N], fp64.

    Raises:
        ValueError: low is not below high, or one is outside the neuron's range.
    """
    if not node.low <= low < high <= node.high:
        raise ValueError(
            f"this HG neuron of {node.function.name} is fitted to {node.low:g} … {node.high:g}: "
            f"low and high must lie there, low below high, got {low:g} and {high:g}"
        )
    count = int(np.clip(_POINTS_PER_SUB_NEURON * len(_borders(node, low, high)), *_POINTS))
    if isinstance(node.function, GridFunction):
        return torch.linspace(low, high, count, dtype=torch.float64, device="cpu")
    octaves = torch.linspace(math.log2(low), math.log2(high), count, dtype=torch.float64, device="cpu")
    return octaves.exp2().clamp(low, high)


def _borders(node: HGNode, low: float, high: float) -> Array:
    """Where one sub-neuron ends and the next begins, between `low` and `high`."""
    if isinstance(node.gates, OctaveGates):
        per_octave = node.gates.fit.per_octave
        octaves = np.arange(round(math.log2(node.low)), round(math.log2(node.high)))
        borders = np.outer(np.exp2(octaves), 1 + np.arange(per_octave) / per_octave).ravel()
    else:
        borders = np.concatenate([_tail_borders(node.gates), node.gates.fit.lines.start.numpy()])
    return borders[(borders > low) & (borders < high)]


def _tail_borders(gates: GridGates) -> Array:
    """The upper end of the core, and those outside it, where sub-neurons of equal width follow a sloped line."""
    function, width = gates.function, gates.tail_width
    core_low, core_high = function.core
    borders = [np.array([core_high])]
    if function.below is not None and function.below.slope:
        borders.append(np.arange(math.ceil(gates.low / width), core_low / width) * width)
    if function.above is not None and function.above.slope:
        borders.append(np.arange(math.floor(core_high / width) + 1, gates.high / width) * width)
    return np.concatenate(borders)


def _draw(node: HGNode, x: Tensor, exact: Tensor, fitted: Tensor) -> Figure:
    error, is_relative = (fitted - exact).abs(), math.isfinite(node.relative_bound)
    panels = 3 if is_relative else 2
    figure = Picture(figsize=(8, 2.6 + 1.7 * panels), layout="constrained")
    top, *below = figure.subplots(panels, 1, sharex=True, height_ratios=[1.8, *[1] * (panels - 1)])
    _draw_function(top, node, x, exact, fitted)
    _draw_error(below[0], x, error, node.bound, log=is_relative)
    below[0].set_ylabel("absolute error\n|HG(x) − f(x)|", fontsize=NORMAL)
    if is_relative:
        _draw_error(below[1], x, _relative(node, x, exact, error), node.relative_bound, log=False)
        below[1].set_ylabel("relative error\n|HG(x) − f(x)| / |f(x)|", fontsize=NORMAL)
    below[-1].set_xlabel("input x", fontsize=NORMAL)
    for axis in (top, *below):
        axis.tick_params(which="both", labelsize=SMALL)
        axis.yaxis.get_offset_text().set_size(SMALL)
    top.set_xlim(float(x[0]), float(x[-1]))
    limit = "" if node.lines is None else f", at most {node.lines} lines"
    title = f"HG neuron of {node.function.name}: T = {node.time_steps}, tolerance {node.tolerance:g}{limit}"
    figure.suptitle(title, fontsize=11)
    return figure


def _relative(node: HGNode, x: Tensor, exact: Tensor, error: Tensor) -> Tensor:
    """Error over |f(x)|; NaN in the tails of exp, where the neuron emits 0 and only the absolute error is bounded."""
    relative = error / exact.abs()
    return (
        relative.where(x >= node.function.core[0], torch.nan) if isinstance(node.function, GridFunction) else relative
    )


def _draw_function(axis: Axes, node: HGNode, x: Tensor, exact: Tensor, fitted: Tensor) -> None:
    lines = [
        *axis.plot(x, exact, color=_EXACT, linewidth=4, label="f(x)"),
        *axis.plot(x, fitted, color=_FIT, linewidth=1, label="HG(x)"),
    ]
    borders = _borders(node, float(x[0]), float(x[-1]))
    if len(borders):
        lines += _draw_rug(axis, borders)
    axis.set_ylabel("output", fontsize=NORMAL)
    if isinstance(node.function, OctaveFunction):
        axis.set_xscale("log")
    if math.isfinite(node.relative_bound):
        axis.set_yscale("log")
    axis.margins(y=0.12)  # the borders stand below the curve
    legend_above(axis, lines)


def _draw_rug(axis: Axes, borders: Array) -> list[Line2D]:
    shown = thin(borders.tolist(), _SHOWN_BORDERS)
    label = "borders of sub-neurons" + (f" ({len(shown)} of {len(borders)})" if len(shown) < len(borders) else "")
    heights, transform = np.full(len(shown), 0.04), axis.get_xaxis_transform()
    return axis.plot(shown, heights, "|", color=_BORDERS, markersize=8, label=label, transform=transform)


def _draw_error(axis: Axes, x: Tensor, error: Tensor, bound: float, log: bool) -> None:
    """The error and its bound, with room above for the bound's value."""
    axis.plot(x, error, color=_FIT, linewidth=0.5)
    axis.axhline(bound, color=_BOUND, linestyle="--", linewidth=1.2)
    if log:
        lowest = float(error[error > 0].quantile(0.01))  # a few points are exact by chance
        axis.set_yscale("log")
        axis.set_ylim(lowest / 3, bound * (bound / lowest) ** 0.3)
    else:
        axis.set_ylim(0, 1.35 * bound)
    axis.annotate(
        f"proven bound {bound:.2g}",
        (0.99, bound),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=_BOUND,
        fontsize=NORMAL,
    )
