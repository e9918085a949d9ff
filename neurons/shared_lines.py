"""Fits of exponentials, whose lines of one period serve all others, shifted by binary digits.

f doubles from one period to the next, exp each ln 2: sub-neuron m of k a period has the line of sub-neuron m mod k,
times 2^⌊m/k⌋. Gates lie on the edges of cells, so that each line serves one cell beyond its share of the period.
"""

import math

import torch

from las_sj.neurons.fitting import GridFit, coded_lines, least_squares, misses_by_chord
from las_sj.neurons.functions import GridFunction

_CELLS_PER_LINE = 8


def fit_shared(function: GridFunction, time_steps: int, tolerance: float, lines: int) -> GridFit:
    """Fit a function that doubles every period with the least error that so many lines allow.

    Args:
        function: f, convex, with `doubles_every`.
        time_steps: T.
        tolerance: relative error of a chord that is fine enough.
        lines: at most so many in a period.
    """
    low, high = function.core
    count = min(lines, math.ceil(math.log(2) / math.sqrt(8 * tolerance)))
    share = function.doubles_every / count  # of a period
    cell_width = 2.0 ** min(math.floor(math.log2(share / _CELLS_PER_LINE)), -3)
    edges = torch.arange(round((high - low) / cell_width), dtype=torch.float64) * cell_width + low
    opened = torch.floor(edges / share).long()  # by each cell
    owners = torch.arange(int(opened[0]), int(opened[-1]) + 1)
    # Lines of 0 … period, in single precision as tables are, so that the others are these times a power of two.
    base = torch.arange(count, dtype=torch.float64) * share
    width = torch.full_like(base, share + cell_width)
    line = least_squares(function, base, width)
    misses = misses_by_chord(function, base, base + width, line, function.curvature(base + width))
    place, octaves = owners % count, torch.exp2(torch.div(owners, count, rounding_mode="floor").double())
    start, width = _rounded_down(owners * share), width[place]
    return GridFit(
        coded_lines(
            function,
            (start, width),
            (line[0][place] * octaves, line[1][place] * octaves),
            misses[place] * octaves,
            function.curvature(start + width),
            time_steps,
        ),
        cell_width,
        (opened - opened[0]).int(),
        repeats_every=count,
    )


def _rounded_down(x: torch.Tensor) -> torch.Tensor:
    """Numbers of single precision that are no larger: no input is coded by a sub-neuron that starts after it."""
    single = x.float()
    return torch.where(single.double() > x, single.nextafter(single.new_tensor(-torch.inf)), single).double()
