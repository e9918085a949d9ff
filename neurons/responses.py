"""What a multi-threshold code makes of a magnitude: its squared error and its spikes, in tables over bins.

A threshold that is doubled has the same table, shifted by an octave, so that one table for each mantissa of a threshold
serves all thresholds that have it.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from las_sj.neurons.code import MultiThresholdCode, emit_steps
from las_sj.neurons.thresholds import BINS_PER_OCTAVE, bin_centres

_POINTS = 8  # of a bin


@dataclass(frozen=True)
class Response:
    """Means over each bin of magnitudes, for a threshold in [1, 2).

    Attributes:
        first: bin of the table's first entry, as `thresholds.magnitude_histogram` counts them; below it nothing fires.
        error: squared coding error, fp64 [entries].
        spikes: spikes per window, fp64 [entries].
    """

    first: int
    error: Tensor
    spikes: Tensor


@lru_cache(maxsize=4096)
def response_of(code: MultiThresholdCode, mantissa: float) -> Response:
    """The response of a code whose base threshold is `mantissa`, by playing its dynamics on points of each bin.

    Args:
        code: the settings.
        mantissa: of the threshold, 1 ≤ mantissa < 2.
    """
    octaves = code.time_steps + 2  # below half of the last step's threshold, and 2θ above the first
    first = _bin_of(2.0**-octaves)
    centres = bin_centres()[first : _bin_of(2.0) + 1]
    width = 2.0 ** torch.floor(torch.log2(centres)) / BINS_PER_OCTAVE
    places = (torch.arange(_POINTS, dtype=torch.float64) + 0.5) / _POINTS - 0.5
    values = (centres.unsqueeze(1) + width.unsqueeze(1) * places).clamp(max=mantissa)  # [entries, points]
    unit = mantissa / (2 * code.levels)
    coded, spikes = torch.zeros_like(values), torch.zeros_like(values)
    for spike in emit_steps(values / unit, code):
        coded += spike
        spikes += spike != 0
    return Response(first, (coded * unit - values).square().mean(1), spikes.mean(1))


def _bin_of(value: float) -> int:
    """The bin of a power of two."""
    return (127 + round(math.log2(value))) * BINS_PER_OCTAVE


@dataclass(frozen=True)
class Outcome:
    """What candidate thresholds make of the values of a population, fp64 [candidates].

    Attributes:
        theta_normal, theta_outlier: the thresholds.
        error: Σ weight · squared error.
        spikes: Σ count · spikes.
    """

    theta_normal: Tensor
    theta_outlier: Tensor
    error: Tensor
    spikes: Tensor


def outcomes(
    counts: Tensor,
    weights: Tensor,
    limit: float,
    code: MultiThresholdCode,
    finest: float,
    *,
    power_of_two_units: bool = False,
) -> Outcome:
    """Errors and spikes of an OAT population for a grid of normal thresholds.

    A normal threshold beyond `limit` has no outliers: its first steps stay silent, and its last are coarser.

    Args:
        counts: histogram of magnitudes, [BINS].
        weights: what a squared error in each bin counts, [BINS].
        limit: the largest magnitude that must be in range.
        code: the settings.
        finest: the least normal threshold that is tried.
        power_of_two_units: whether θ/n of all thresholds must be powers of two.
    """
    of_levels = code.levels / 2.0 ** math.floor(math.log2(code.levels))
    mantissas = [of_levels] if power_of_two_units else sorted({1.0, 1.5, of_levels})
    exponents = torch.arange(math.floor(math.log2(finest)), math.floor(math.log2(limit)) + code.time_steps + 2)
    bins = torch.nonzero(counts).squeeze(1)
    weight, count, centre = weights[bins], counts[bins].double(), bin_centres()[bins]
    exponent, mantissa = _least_from(limit, mantissas)
    outlier = _per_bin(bins, torch.tensor([exponent]), mantissa, code)
    found = []
    for mantissa_tried in mantissas:
        theta = 2.0 ** exponents.double() * mantissa_tried
        is_normal = centre <= theta.unsqueeze(1)
        normal = _per_bin(bins, exponents, mantissa_tried, code)
        error, spikes = (torch.where(is_normal, own, other) for own, other in zip(normal, outlier, strict=True))
        largest = theta.clamp(min=2.0**exponent * mantissa)
        found.append(torch.stack([theta, largest, error @ weight, spikes @ count]))
    return Outcome(*torch.cat(found, 1))


def _least_from(limit: float, mantissas: list[float]) -> tuple[int, float]:
    """Exponent and mantissa of the least threshold from `limit` on."""
    exponent = math.floor(math.log2(limit))
    pairs = [(exponent + more, mantissa) for more in (0, 1) for mantissa in mantissas]
    return next(pair for pair in pairs if 2.0 ** pair[0] * pair[1] >= limit)


def _per_bin(bins: Tensor, exponents: Tensor, mantissa: float, code: MultiThresholdCode) -> tuple[Tensor, Tensor]:
    """Squared error and spikes of each of `bins` ([N]) under thresholds 2^exponent · mantissa, fp64 [exponents, N]."""
    table = response_of(code, mantissa)
    index = bins - exponents.unsqueeze(1) * BINS_PER_OCTAVE - table.first
    fires = index >= 0
    index = index.clamp(0, len(table.error) - 1)
    size = 4.0 ** exponents.double().unsqueeze(1)
    error = torch.where(fires, table.error[index] * size, bin_centres()[bins].square())
    return error, table.spikes[index].masked_fill(~fires, 0.0)
