"""Closed-form fits of HG neurons, each with a proven bound of its error.

Sub-neuron m owns (a_m, a_{m+1}], of width Δ_m. It codes r = x − a_m in binary with T steps, so that r is known up
to half a step, Δ_m·2^-(T+1), and emits a line in r. Both the gates and the codes see x with a constant added, a
fraction of a step: inputs that are sums of spikes often lie exactly on break points and steps, where a difference in
the order of summation would otherwise decide. The chord of f misses it by at most Δ_m²·max|f''|/8. The line
used is the least-squares one over the coded values; its distance from the chord is largest at an end, and f lies
on one side of its chord where f'' keeps its sign, which together bound its error.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from las_sj.neurons.functions import FUNCTIONS, GridFunction, HGFunction, OctaveFunction, Tail

MAX_TAIL_NEURONS = 256  # per side
SHIFT = math.sqrt(5) - 2  # of a step, about a quarter; irrational, so that no sum of spikes lies on a shifted edge
_SAMPLES = 64  # points of a sub-range that the least-squares line is fitted to
_FP32 = 2.0**-23


@dataclass(frozen=True)
class Lines:
    """One line per sub-neuron: x in (start, start + width] goes to bias + amplitude·(coded share of the width).

    Coded is x + shift; `bias` makes up for the shift, and for the half step that truncation loses on average.
    Tensors [M], fp64.
    """

    start: Tensor
    width: Tensor
    bias: Tensor
    amplitude: Tensor
    shift: Tensor
    bound: Tensor  # absolute error of each sub-neuron
    relative_bound: Tensor  # the same over the smallest |f| in the sub-range


@dataclass(frozen=True)
class GridFit:
    """Sub-neurons over the core of a `GridFunction`, on a grid of cells 2^-j wide."""

    lines: Lines
    cell_width: float
    cells: Tensor  # int32 [cells]: which sub-neuron owns a cell
    repeats_every: int = 0  # sub-neurons, whose lines are shared by shifts; 0: each has its own
    tail_width: float | None = None  # Δ of the sub-neurons of a sloped tail; None: what the tolerance asks for

    @property
    def stored(self) -> int:
        """Lines that must be stored."""
        return self.repeats_every or len(self.lines.start)


@dataclass(frozen=True)
class OctaveFit:
    """Sub-neurons of one period of an `OctaveFunction`, `per_octave` equal ones in each octave."""

    lines: Lines
    per_octave: int

    @property
    def stored(self) -> int:
        """Lines that must be stored."""
        return len(self.lines.start)


@lru_cache(maxsize=64)
def fit_grid(name: str, time_steps: int, tolerance: float) -> GridFit:
    """Fit a `GridFunction`.

    Args:
        name: its key in `FUNCTIONS`.
        time_steps: T.
        tolerance: error of a chord that a sub-range is grown to.
    """
    function = FUNCTIONS[name]
    assert isinstance(function, GridFunction)
    low, high = function.core
    cell_width = _cell_width(function, tolerance)
    edges = torch.arange(round((high - low) / cell_width) + 1, dtype=torch.float64) * cell_width + low
    values, curvature = function.exact(edges), function.curvature(edges).abs()
    worst = torch.maximum(curvature[:-1], curvature[1:]) + function.third * cell_width / 2  # [cells]
    smallest = torch.minimum(values[:-1].abs(), values[1:].abs())
    allowed = tolerance * smallest if function.relative else torch.full_like(worst, tolerance)
    owner = _grow(worst.tolist(), allowed.tolist(), cell_width)
    cells = torch.tensor(owner, dtype=torch.int32)
    first = torch.searchsorted(cells.long(), torch.arange(owner[-1] + 2))
    lines = _fit_lines(function, edges[first[:-1]], edges[first[1:]], block_max(worst, cells), time_steps)
    return GridFit(lines, cell_width, cells)


def _cell_width(function: GridFunction, tolerance: float) -> float:
    """A power of two well below the narrowest sub-range, dividing the core."""
    low, high = function.core
    grid = torch.linspace(low, high, 4097, dtype=torch.float64)
    curvature = function.curvature(grid).abs()
    if function.relative:
        curvature = curvature / function.exact(grid).abs()
    narrowest = (8 * tolerance / curvature.max().clamp(min=8 * tolerance * 64)).sqrt()
    return 2.0 ** float(torch.floor(torch.log2(narrowest / 8)).clamp(min=-11, max=-3))


def _grow(worst: list[float], allowed: list[float], cell_width: float) -> list[int]:
    """Give each cell to a sub-neuron, left to right, each sub-range as long as its chord's error allows."""
    owner, index, start, peak, limit = [], 0, 0, 0.0, float("inf")
    for cell, (curvature, tolerance) in enumerate(zip(worst, allowed, strict=True)):
        peak, limit = max(peak, curvature), min(limit, tolerance)
        width = (cell + 1 - start) * cell_width
        if cell > start and (width * width * peak / 8 > limit or width > 1):
            index, start, peak, limit = index + 1, cell, curvature, tolerance
        owner.append(index)
    return owner


def block_max(values: Tensor, owner: Tensor) -> Tensor:
    """The largest of `values` ([cells]) for each owner, [M]."""
    largest = values.new_zeros(int(owner[-1]) + 1)
    return largest.scatter_reduce(0, owner.long(), values, "amax")


def least_squares(function: HGFunction, start: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """The least-squares line of each sub-range, over the values that are coded: its value at the start, and its rise.

    Args:
        function: what to fit.
        start, width: of sub-ranges, [M].
    """
    share = (torch.arange(_SAMPLES, dtype=torch.float64) + 0.5) / _SAMPLES  # [K], of the width
    values = function.exact(start[:, None] + width[:, None] * share)  # [M, K]
    centred = share - share.mean()
    amplitude = (values * centred).sum(1) / centred.square().sum()
    return values.mean(1) - amplitude * share.mean(), amplitude


def misses_by_chord(
    function: HGFunction, start: Tensor, end: Tensor, line: tuple[Tensor, Tensor], worst: Tensor
) -> Tensor:
    """An upper bound of the distance of f from a line in each sub-range, [M], from that of its chord.

    Args:
        function: f.
        start, end: of sub-ranges, [M].
        line: value at the start, and rise.
        worst: an upper bound of |f''| in each sub-range, [M].
    """
    bias, amplitude = line
    left, right = function.exact(start), function.exact(end)
    to_left, to_right = bias - left, bias + amplitude - right  # line minus chord, at the ends
    chord_error = (end - start).square() * worst / 8
    bends_up, bends_down = _bends(function, start, end)
    # f minus chord lies in [−chord_error, 0] where f'' > 0, in [0, chord_error] where f'' < 0.
    lowest = -torch.where(bends_down, 0.0, chord_error) - torch.maximum(to_left, to_right)
    highest = torch.where(bends_up, 0.0, chord_error) - torch.minimum(to_left, to_right)
    return torch.maximum(lowest.abs(), highest.abs())


def coded_lines(
    function: HGFunction,
    ranges: tuple[Tensor, Tensor],
    line: tuple[Tensor, Tensor],
    misses: Tensor,
    worst: Tensor,
    time_steps: int,
) -> Lines:
    """Lines of sub-neurons that code their inputs in T steps, with the bound of the whole error.

    Args:
        function: f.
        ranges: start and width of sub-ranges, [M].
        line: value at the start, and rise, [M].
        misses: an upper bound of the distance of f from each line in its sub-range, [M].
        worst: an upper bound of |f''| there, [M].
        time_steps: T.
    """
    (start, width), (bias, amplitude) = ranges, line
    end = start + width
    shift = SHIFT * width * 2.0**-time_steps
    half_step = amplitude.abs() * 2.0 ** -(time_steps + 1)
    if isinstance(function, GridFunction):
        shift = torch.full_like(shift, float(shift.min()))  # the gates of a grid are shifted together
        half_step[-1] += amplitude[-1].abs() * shift[-1] / width[-1]  # no sub-range follows to shift into
    overlap = width.square() * worst / 8 * 2.0 ** (1 - time_steps)  # a shifted sub-range begins before its own
    rounding = 2 * _FP32 * (bias.abs() + amplitude.abs()) + _FP32 * amplitude.abs() / width * end.abs()
    bound = misses + half_step + overlap + rounding
    smallest = torch.minimum(function.exact(start).abs(), function.exact(end).abs())
    bias = bias + amplitude * (2.0 ** -(time_steps + 1) - shift / width)
    return Lines(start, width, bias, amplitude, shift, bound, bound / smallest)


def _fit_lines(function: HGFunction, start: Tensor, end: Tensor, worst: Tensor, time_steps: int) -> Lines:
    """Least-squares line of each sub-range, and its bound.

    Args:
        function: what to fit.
        start, end: a_m and a_{m+1}, [M].
        worst: an upper bound of |f''| in each sub-range, [M].
        time_steps: T.
    """
    width = end - start
    line = least_squares(function, start, width)
    misses = misses_by_chord(function, start, end, line, worst)
    return coded_lines(function, (start, width), line, misses, worst, time_steps)


def _bends(function: HGFunction, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Where f'' is surely positive, surely negative throughout a sub-range."""
    left, right = function.curvature(start), function.curvature(end)
    swing = function.third * (end - start) if isinstance(function, GridFunction) else 0.0
    return torch.minimum(left, right) > swing, torch.maximum(left, right) < -swing


def tail_width(time_steps: int, tolerance: float, reach: float) -> float:
    """Width of the sub-neurons of a sloped tail that covers |x| ≤ reach.

    A power of two: half a step within tolerance, but no more than MAX_TAIL_NEURONS to get there.
    """
    wanted = 2 * tolerance * 2.0**time_steps
    needed = max(reach, 1.0) / MAX_TAIL_NEURONS
    return 2.0 ** float(torch.ceil(torch.log2(torch.tensor(max(needed, min(wanted, 1.0))))))


@lru_cache(maxsize=64)
def fit_octaves(name: str, time_steps: int, tolerance: float, most_lines: int | None = None) -> OctaveFit:
    """Fit an `OctaveFunction`.

    Args:
        name: its key in `FUNCTIONS`.
        time_steps: T.
        tolerance: error of a chord that is fine enough, relative but for logarithms.
        most_lines: that may be stored; None: as many as the tolerance asks for.
    """
    function = FUNCTIONS[name]
    assert isinstance(function, OctaveFunction)
    per_octave, most = 2, (most_lines or 1024 * function.period) // function.period
    while True:
        starts = []
        for octave in range(function.period):
            starts.append(2.0**octave * (1 + torch.arange(per_octave, dtype=torch.float64) / per_octave))
        start = torch.cat(starts)
        end = torch.cat([start[1:], start.new_tensor([2.0**function.period])])
        worst = torch.maximum(function.curvature(start).abs(), function.curvature(end).abs())
        chord = (end - start).square() * worst / 8
        if not function.step:
            chord = chord / torch.minimum(function.exact(start), function.exact(end))
        if bool((chord <= tolerance).all()) or 2 * per_octave > most:
            return OctaveFit(_fit_lines(function, start, end, worst, time_steps), per_octave)
        per_octave *= 2


def tail_bound(function: GridFunction, width: float, time_steps: int, low: float, high: float) -> float:
    """Absolute error outside the core, from `low` to `high`: the asymptote's own error, half a step, fp32 rounding."""
    core_low, core_high = function.core
    exact = function.exact(torch.tensor([core_low, core_high], dtype=torch.float64)).tolist()
    bound = 0.0
    sides = (
        (function.below, core_low, exact[0], low, low <= core_low),
        (function.above, core_high, exact[1], high, high >= core_high),
    )
    for tail, x, y, end, is_reached in sides:
        if isinstance(tail, Tail) and is_reached:
            step = abs(tail.slope) * (width * 2.0 ** -(time_steps + 1) + _FP32 * abs(end))
            bound = max(bound, abs(tail.intercept + tail.slope * x - y) + step)
    return bound
