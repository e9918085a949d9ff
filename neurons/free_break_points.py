"""Fits of the core of a `GridFunction` by so many lines: break points of least error over the calibrated range.

Sub-ranges grow from left to right, each as long as the error of its least-squares line and of its code allows; the
allowed error is the least one with which the lines suffice. The proof of the error needs the curvature of one cell
alone, h wide. Between the edges of a cell f is closer to its chord than h²·max|f''|/8. So it misses a line by no more
than it does at the edges, and that.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from las_sj.neurons.fitting import GridFit, Lines, block_max, coded_lines, least_squares
from las_sj.neurons.functions import GridFunction

_OUTSIDE = 8.0  # beyond the calibrated range errors count so many times less
_CELLS_PER_LINE, _LEAST_CELLS = 32, 1024
_STEPS = 32  # of the allowed error per octave; fixed numbers, so that every machine finds the same fit
_COARSEST, _FINEST = 8 * _STEPS, -40 * _STEPS


def fit_core(
    function: GridFunction, time_steps: int, tolerance: float, lines: int, calibrated: tuple[float, float]
) -> GridFit:
    """Fit the core with the least error that so many lines allow, but no finer than a tolerance.

    Args:
        function: f.
        time_steps: T.
        tolerance: error of a chord that is fine enough.
        lines: at most so many.
        calibrated: the range in which they are to serve; bounds hold there.
    """
    low, high = function.core
    count = 2.0 ** math.ceil(math.log2(max(_CELLS_PER_LINE * lines, _LEAST_CELLS)))
    cell_width = 2.0 ** math.ceil(math.log2((high - low) / count))
    edges = torch.arange(round((high - low) / cell_width) + 1, dtype=torch.float64) * cell_width + low
    inside = (edges > calibrated[0] - cell_width) & (edges < calibrated[1] + cell_width)
    values = function.exact(edges)
    weights = torch.where(inside, 1.0, 1 / _OUTSIDE) / (values.abs() if function.relative else 1.0)
    fine_enough = 2 / 3 * tolerance  # the largest error of a line where that of the chord is the tolerance
    mass = float((function.curvature(edges).abs() * weights).sqrt().sum()) * cell_width  # ∫√|f''|, which lines share
    runs = _Runs(values, weights, time_steps)
    breaks = torch.tensor(_break_points(runs, lines, fine_enough, (mass / lines) ** 2 / 12))
    cells = torch.repeat_interleave(torch.arange(len(breaks) - 1, dtype=torch.int32), breaks.diff())
    return GridFit(_lines(function, edges, inside, breaks, cells, time_steps), cell_width, cells)


class _Runs:
    """Least-squares lines over runs of cells, from sums of all values before.

    Args:
        values: of f at the edges of cells, [N].
        weights: of errors there, [N].
        time_steps: T.
    """

    def __init__(self, values: Tensor, weights: Tensor, time_steps: int) -> None:
        places = torch.arange(len(values), dtype=torch.float64)
        self.values, self.weights, self.places = values.numpy(), weights.numpy(), places.numpy()
        self.sums = [0.0, *values.cumsum(0).tolist()]
        self.moments = [0.0, *(values * places).cumsum(0).tolist()]
        self.half_step = 2.0 ** -(time_steps + 1)

    def error(self, first: int, last: int) -> float:
        """The largest weighted error of the line over the edges `first` … `last`, and of its code."""
        count = last - first + 1
        total = self.sums[last + 1] - self.sums[first]
        moment = self.moments[last + 1] - self.moments[first] - (first + (count - 1) / 2) * total
        slope = moment / (count * (count * count - 1) / 12)
        at_first = total / count - slope * (count - 1) / 2
        misses = abs(self.values[first : last + 1] - (at_first + slope * self.places[:count]))
        coded = abs(slope) * (count - 1) * self.half_step
        return float(((misses + coded) * self.weights[first : last + 1]).max())

    def longest(self, first: int, allowed: float, guess: int) -> int:
        """The last edge of a long run from `first` with no more than the allowed error, or of one cell."""
        end, good, step = len(self.values) - 1, first + 1, guess
        while good < end and self.error(first, min(good + step, end)) <= allowed:
            good, step = min(good + step, end), 2 * step
        while step > 1:
            step //= 2
            if good + step <= end and self.error(first, good + step) <= allowed:
                good += step
        return good


def _break_points(runs: _Runs, lines: int, fine_enough: float, expected: float) -> list[int]:
    """The edges at which sub-ranges begin, and the last one: about as exact as `lines` of them allow.

    Args:
        runs: of cells.
        lines: at most so many sub-ranges.
        fine_enough: an error below which nobody wants more of them.
        expected: an error to look near.
    """
    finest = max(math.ceil(math.log2(fine_enough) * _STEPS), _FINEST)
    fine, too_fine, found = _COARSEST, finest - 1, [0, len(runs.values) - 1]
    guess, stride = math.ceil(math.log2(max(expected, fine_enough)) * _STEPS), _STEPS // 4
    while fine - too_fine > 1:
        guess = min(max(guess, too_fine + 1), fine - 1)
        grown = _grow(runs, 2.0 ** (guess / _STEPS), lines)
        if grown is None:
            too_fine = guess
        else:
            fine, found = guess, grown
        is_bracketed = fine < _COARSEST and too_fine >= finest
        guess = (fine + too_fine) // 2 if is_bracketed else guess + (stride if grown is None else -stride)
        stride *= 2
    return found


def _grow(runs: _Runs, allowed: float, lines: int) -> list[int] | None:
    """Sub-ranges from left to right, each as long as the allowed error lets it be; None where they are too many."""
    edges, length = [0], 1
    while edges[-1] < len(runs.values) - 1:
        if len(edges) > lines:
            return None
        edges.append(runs.longest(edges[-1], allowed, length))
        length = 1 << max((edges[-1] - edges[-2]).bit_length() - 2, 0)
    return edges


def _lines(
    function: GridFunction, edges: Tensor, inside: Tensor, breaks: Tensor, cells: Tensor, time_steps: int
) -> Lines:
    """The lines of sub-ranges, with bounds that hold where inputs are `inside` of the calibrated range.

    Args:
        function: f.
        edges: of cells, [N].
        inside: whether an edge is in the calibrated range, or next to it, [N].
        breaks: the edges at which sub-ranges begin, and the last one, [M + 1].
        cells: which sub-neuron owns a cell, [N − 1].
        time_steps: T.
    """
    start, cell_width, owner = edges[breaks[:-1]], float(edges[1] - edges[0]), cells.long()
    width = edges[breaks[1:]] - start
    bias, amplitude = least_squares(function, start, width)
    values, curvature = function.exact(edges), function.curvature(edges).abs()
    worst = torch.maximum(curvature[:-1], curvature[1:]) + function.third * cell_width / 2  # [N − 1]
    misses = torch.zeros_like(worst)
    for side in (slice(None, -1), slice(1, None)):
        share = (edges[side] - start[owner]) / width[owner]
        misses = torch.maximum(misses, (values[side] - bias[owner] - amplitude[owner] * share).abs())
    misses += cell_width**2 * worst / 8
    within = inside[:-1] & inside[1:]
    lines = coded_lines(
        function,
        (start, width),
        (bias, amplitude),
        block_max(misses.where(within, 0.0), cells),
        block_max(worst, cells),
        time_steps,
    )
    opens = block_max(within.double(), cells) > 0
    return replace(lines, bound=lines.bound.where(opens, 0.0), relative_bound=lines.relative_bound.where(opens, 0.0))
