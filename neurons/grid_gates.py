"""The sub-neurons of a function with its curvature in a core interval: a grid of cells says which of them is open."""

import math
from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor

from las_sj.neurons.fitting import tail_bound, tail_width
from las_sj.neurons.functions import GridFunction, Tail
from las_sj.neurons.kernels.structures import FLAT, HELD, SLOPED, Gates
from las_sj.neurons.line_budget import LineBudget, budget_for, fit_grid_within, rounded_outwards, tail_lines
from las_sj.neurons.look_up import Selected, look_up

_ROUNDING_ALLOWANCE = 1e-3  # of inputs just above 0 in exp


class GridGates:
    """Which sub-neuron of a `GridFunction` is open, and its line.

    Methods take the node's `tables` by name, which move between devices with it.

    Args:
        function: the function.
        time_steps: T.
        tolerance: error of a chord.
        lines: that may be stored; None: as many as the tolerance asks for.

    Attributes:
        fit: the sub-neurons of the core.
        low, high: the range of inputs. Without a limit of lines it contains the core; with one it is what it was set
            to, rounded outwards, and sub-neurons of the core beyond it are coarser.
        bound, relative_bound: proven bounds of the error within the range (absolute, relative to f).
        sub_neurons: M.
        stored_lines: of sub-neurons whose lines are not those of others, shifted by binary digits.
        tail_width: Δ of the sub-neurons outside the core.
    """

    def __init__(self, function: GridFunction, time_steps: int, tolerance: float, lines: int | None = None) -> None:
        self.function = function
        self.time_steps = time_steps
        self.tolerance = tolerance
        self.lines = lines
        self.set_range(None, None)

    def tables(self) -> dict[str, Tensor]:
        """The tables, by name, in the order in which checkpoints hold them; shared, not to be changed."""
        return _tables_of(self.function.name, self.time_steps, self.tolerance, self._budget)

    def set_range(self, low: float | None, high: float | None) -> None:
        """Set the range of inputs; None keeps the core's end. With a limit of lines the tables are other ones then."""
        self.low, self.high, self._budget = self._range_for(low, high)
        self.fit = fit_grid_within(self.function.name, self.time_steps, self.tolerance, self._budget)
        self._shift = float(self.fit.lines.shift[0])
        function = self.function
        sides = ((function.below, -self.low), (function.above, self.high))
        reach = max((end for tail, end in sides if tail is not None and tail.slope), default=1.0)
        self.tail_width = self.fit.tail_width or tail_width(self.time_steps, self.tolerance, reach)
        lines = self.fit.lines
        of_tails = tail_bound(function, self.tail_width, self.time_steps, self.low, self.high)
        self.bound = max(float(lines.bound.max()), of_tails)
        self.relative_bound = float(lines.relative_bound.max()) if function.relative else math.inf
        tails = tail_lines(function, self.tail_width, self.low, self.high)
        self.sub_neurons, self.stored_lines = len(lines.start) + tails, self.fit.stored + tails

    def _range_for(self, low: float | None, high: float | None) -> tuple[float, float, LineBudget | None]:
        """The range that inputs from `low` to `high` are given, and what may be stored for it."""
        function, (core_low, core_high) = self.function, self.function.core
        low, high = core_low if low is None else low, core_high if high is None else high
        if self.lines is not None:
            low, high = rounded_outwards(low, high)
        low = max(core_low, low) if function.below is None else low
        high = min(core_high, high) if function.above is None else high
        if self.lines is None or function.doubles_every or not low < high:
            low, high = min(core_low, low), max(core_high, high)
        return low, high, None if self.lines is None else budget_for(function, self.lines, low, high)

    def ends(self) -> tuple[float, float]:
        """Between which inputs lie in range; a flat tail has no end, but where the range has one in the core."""
        low = -math.inf if self._is_flat("below") else self.low - _ROUNDING_ALLOWANCE
        high = math.inf if self._is_flat("above") else self.high + _ROUNDING_ALLOWANCE
        return low, high

    def _is_flat(self, side: str) -> bool:
        """Whether the function is flat from the end of the range on."""
        tail = getattr(self.function, side)
        covers = self.low <= self.function.core[0] if side == "below" else self.high >= self.function.core[1]
        return tail is not None and not tail.slope and covers

    @property
    def is_watched(self) -> bool:
        """Whether inputs beyond the range are coded less well, or by sub-neurons that were not planned."""
        sides = (("below", self.function.below), ("above", self.function.above))
        goes_on = any(tail is not None and not self._is_flat(side) for side, tail in sides)
        return goes_on or self.function.stops

    def describe(self, gates: Gates, addresses: list[int]) -> None:
        """Write grid, core and tails to the structure for the kernels."""
        gates.cells, gates.start, gates.inverse_width, gates.bias, gates.amplitude = addresses
        function = self.function
        gates.is_grid = True
        gates.cell_count, gates.sub_neurons = len(self.fit.cells), len(self.fit.lines.start)
        gates.shift, (gates.core_low, gates.core_high) = self._shift, function.core
        gates.inverse_cell = 1 / self.fit.cell_width
        gates.first_cell = 1 + function.core[0] / self.fit.cell_width
        for side, tail in (("below", function.below), ("above", function.above)):
            # A tail without a slope is one where inputs beyond the range count.
            setattr(gates, side, HELD if tail is None else FLAT if self._is_flat(side) else SLOPED)
            if tail is not None:
                setattr(gates, f"{side}_intercept", tail.intercept)
                setattr(gates, f"{side}_slope", tail.slope)
        gates.tail_width = self.tail_width

    def select(self, v: Tensor, tables: Mapping[str, Tensor], lowest: float, highest: float) -> Selected:
        """The open sub-neuron of each element of `v`, whose extremes are given: coded share, bias, amplitude."""
        core_low, core_high = self.function.core
        inside = (v + self._shift).clamp_(core_low, core_high)
        sub_neuron = self._open(inside, tables)
        share = inside.sub_(look_up(tables["start"], sub_neuron, v))
        share.mul_(look_up(tables["inverse_width"], sub_neuron, v))
        bias, amplitude = look_up(tables["bias"], sub_neuron, v), look_up(tables["amplitude"], sub_neuron, v)
        share.clamp_(0, 1)
        selected = (share, bias, amplitude)
        if not lowest >= core_low and self.function.below is not None:
            self._select_tail(v, self.function.below, v < core_low, selected)
        if not highest <= core_high and self.function.above is not None:
            self._select_tail(v, self.function.above, v > core_high, selected)
        return selected

    def _open(self, inside: Tensor, tables: Mapping[str, Tensor]) -> Tensor:
        """Index of the open sub-neuron of each element of the core."""
        cell_width, cells = self.fit.cell_width, tables["cells"]
        cell = (inside * (1 / cell_width)).ceil_().sub_(1 + self.function.core[0] / cell_width).long()
        return look_up(cells, cell.clamp_(0, len(cells) - 1), inside).long()

    def _select_tail(self, v: Tensor, tail: Tail, outside: Tensor, selected: Selected) -> None:
        """Overwrite `selected` where `outside`."""
        share, bias, amplitude = selected
        if not tail.slope:
            inside = (~outside).to(bias.dtype)  # 0 or 1: faster than masked_fill_
            for part in selected:
                part.mul_(inside)
            if tail.intercept:
                bias.add_(1 - inside, alpha=tail.intercept)
            return
        x = v[outside]
        width = self.tail_width
        widths = x / width
        start = torch.where(widths.isinf(), x, (widths.ceil() - 1) * width)
        share[outside] = torch.where(torch.isinf(x), 0.0, (x - start) / width)
        half_step = width * 2.0 ** -(self.time_steps + 1)
        bias[outside] = tail.intercept + tail.slope * (start + half_step)
        amplitude[outside] = tail.slope * width

    def slope(self, v: Tensor, tables: Mapping[str, Tensor]) -> Tensor:
        """The slope of the open sub-neuron of each element, [...]."""
        core_low, core_high = self.function.core
        sub_neuron = self._open(v + self._shift, tables)
        slope = look_up(tables["amplitude"], sub_neuron, v) * look_up(tables["inverse_width"], sub_neuron, v)
        if self.function.above is None:
            core_high += _ROUNDING_ALLOWANCE  # in a temporal run the maximum of softmax is 0 up to rounding
        for tail, outside in ((self.function.below, v < core_low), (self.function.above, v > core_high)):
            slope = slope.masked_fill(outside, tail.slope if tail is not None else 0.0)
        return slope


@lru_cache(maxsize=64)
def _tables_of(name: str, time_steps: int, tolerance: float, budget: LineBudget | None) -> dict[str, Tensor]:
    fit = fit_grid_within(name, time_steps, tolerance, budget)
    lines = fit.lines
    return {
        "cells": fit.cells,
        "start": lines.start.float(),
        "inverse_width": (1 / lines.width).float(),
        "bias": lines.bias.float(),
        "amplitude": lines.amplitude.float(),
    }
