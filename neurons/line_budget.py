"""Fits of HG neurons that store no more than so many lines: what goes to the tails, what to the core."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from las_sj.neurons.fitting import GridFit, fit_grid, tail_width
from las_sj.neurons.free_break_points import fit_core
from las_sj.neurons.functions import FUNCTIONS, GridFunction
from las_sj.neurons.shared_lines import fit_shared

LEAST_LINES, MOST_LINES = 8, 1024
_FOR_CORE = 4  # lines at least


def is_number_of_lines(value: object) -> bool:
    """Whether a population may be limited to so many lines."""
    return isinstance(value, int) and not isinstance(value, bool) and LEAST_LINES <= value <= MOST_LINES


@dataclass(frozen=True)
class LineBudget:
    """How many lines a population may store, and the range in which they are to serve.

    Args:
        lines: at most so many, those of tails included.
        low, high: the range.
    """

    lines: int
    low: float
    high: float


def budget_for(function: GridFunction, lines: int, low: float, high: float) -> LineBudget:
    """The budget of a function's neurons in a range, of which flat tails need to know no more than where they begin."""
    core_low, core_high = function.core
    is_sloped = [tail is not None and bool(tail.slope) for tail in (function.below, function.above)]
    return LineBudget(
        lines, low if is_sloped[0] else max(low, core_low), high if is_sloped[1] else min(high, core_high)
    )


def rounded_outwards(low: float, high: float) -> tuple[float, float]:
    """A range with ends of three binary digits, so that populations of about the same range share their tables."""
    return 0.0 - _rounded_up(-low), _rounded_up(high)  # 0 has no sign then


def _rounded_up(value: float) -> float:
    if value == 0:
        return 0.0
    step = 2.0 ** (math.frexp(value)[1] - 3)
    return math.ceil(value / step) * step


@lru_cache(maxsize=256)
def fit_grid_within(name: str, time_steps: int, tolerance: float, budget: LineBudget | None) -> GridFit:
    """Fit a `GridFunction` with the least error that so many lines allow, but no finer than a tolerance.

    Args:
        name: its key in `FUNCTIONS`.
        time_steps: T.
        tolerance: error of a chord that is fine enough.
        budget: of lines; None: what the tolerance asks for, over the whole core.
    """
    function = FUNCTIONS[name]
    assert isinstance(function, GridFunction)
    if budget is None:
        return fit_grid(name, time_steps, tolerance)
    if function.doubles_every:
        return fit_shared(function, time_steps, tolerance, budget.lines - tail_lines(function, 1.0, *function.core))
    width, tails = _tails_within(function, time_steps, tolerance, budget)
    fit = fit_core(function, time_steps, tolerance, budget.lines - tails, (budget.low, budget.high))
    return replace(fit, tail_width=width)


def tail_lines(function: GridFunction, width: float, low: float, high: float) -> int:
    """Sub-neurons outside of the core, for a range from `low` to `high`: one where f is flat, else each of a width."""
    core_low, core_high = function.core
    count = 0
    for tail, length in ((function.below, core_low - low), (function.above, high - core_high)):
        if tail is not None:
            count += max(1, math.ceil(length / width)) if tail.slope else 1
    return count


def _tails_within(function: GridFunction, time_steps: int, tolerance: float, budget: LineBudget) -> tuple[float, int]:
    """Width of the sub-neurons of a sloped tail, and how many sub-neurons all tails have.

    The width is first what the tolerance asks for. It doubles while a tail leaves too few lines to the core, or more
    to gain there: the error of its code is below that which the core is expected to have with what is left.
    """
    width = tail_width(time_steps, tolerance, max(-budget.low, budget.high, 1.0))
    while True:
        count = tail_lines(function, width, budget.low, budget.high)
        left = budget.lines - count
        half_step = width * 2.0 ** -(time_steps + 1)
        is_shortest = tail_lines(function, 2 * width, budget.low, budget.high) == count
        if is_shortest or (left >= _FOR_CORE and 2 * half_step > _expected_error(function, left)):
            return width, count
        width *= 2


def _expected_error(function: GridFunction, lines: int) -> float:
    """Of a core with so many lines at equal curvature mass."""
    return (_curvature_mass(function.name) / lines) ** 2 / 12


@lru_cache(maxsize=64)
def _curvature_mass(name: str) -> float:
    """∫√|f''| over the core."""
    function = FUNCTIONS[name]
    assert isinstance(function, GridFunction)
    low, high = function.core
    x = torch.linspace(low, high, 4097, dtype=torch.float64)
    return float(function.curvature(x).abs().sqrt().mean()) * (high - low)
