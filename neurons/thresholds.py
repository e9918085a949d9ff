"""Thresholds from statistics of the values that a site codes: least squared error of the code itself."""

import math

import torch
from torch import Tensor

from las_sj.neurons.code import MultiThresholdCode, accumulate
from las_sj.neurons.soundness import MOST

BINS_PER_OCTAVE = 32
_SHIFT = 18  # bits of a fp32 number below exponent and the first five bits of its mantissa
BINS = 1 << (31 - _SHIFT)
_INFINITE = 0x7F800000 >> _SHIFT  # the first bin of infinities and NaN
_CANDIDATES_PER_OCTAVE = 4
_AT_ONCE = 1 << 16  # values
_OCTAVES_SEARCHED = 20


def magnitude_histogram(values: Tensor) -> Tensor:
    """Counts of |values| in bins of 1/32 octave, int64 [BINS].

    Raises:
        ValueError: a value is infinite or NaN.
    """
    parts = values.detach().reshape(-1).split(_AT_ONCE if values.device.type == "cpu" else max(values.numel(), 1))
    histogram = sum((_counts(part) for part in parts), start=torch.zeros(BINS, dtype=torch.int64))
    if int(histogram[_INFINITE:].sum()):
        raise ValueError("infinite or NaN activations")
    return histogram


def _counts(values: Tensor) -> Tensor:
    """Of values [N], which fit into a processor's caches."""
    return torch.bincount(magnitude_bins(values), minlength=BINS).cpu()


def magnitude_bins(values: Tensor) -> Tensor:
    """The bin of each |value|, int32 [N]."""
    return values.detach().reshape(-1).abs().float().view(torch.int32) >> _SHIFT


def bin_centres() -> Tensor:
    """The magnitude that each bin of `magnitude_histogram` stands for, fp64 [BINS]."""
    bits = (torch.arange(BINS, dtype=torch.int32) << _SHIFT) + (1 << (_SHIFT - 1))
    return bits.view(torch.float32).double()


def least_with_power_of_two_unit(limit: float, levels: int) -> float:
    """The least threshold θ ≥ `limit`, a bounded one, with θ/levels a power of two; the largest one beyond them."""
    theta = levels * 2.0 ** math.ceil(math.log2(limit / levels))
    return theta if theta <= MOST else theta / 2


def solve_thresholds(
    histogram: Tensor, limit: float, code: MultiThresholdCode, outlier_aware: bool, *, whole_octaves: bool = False
) -> tuple[float, float]:
    """The base thresholds with the least squared coding error.

    Args:
        histogram: as `magnitude_histogram` returns, [BINS].
        limit: the largest magnitude that must be in range.
        code: the settings of the neuron.
        outlier_aware: whether there are two sub-neurons.
        whole_octaves: whether θ_normal must be a power of two times θ_outlier.

    Returns:
        (θ_normal, θ_outlier); equal where there is one sub-neuron, or nothing to gain from two.
    """
    occupied = torch.nonzero(histogram).squeeze(1)
    values, weights = bin_centres()[occupied], histogram[occupied].double()
    if not outlier_aware or len(values) == 0:
        return limit, limit
    per_octave = 1 if whole_octaves else _CANDIDATES_PER_OCTAVE
    errors = _squared_errors(values, weights, limit, code, per_octave)  # of candidate thresholds, coarsest first
    below = values.unsqueeze(0) <= errors.thresholds.unsqueeze(1)  # [candidates, values]
    total = torch.where(below, errors.per_value, errors.per_value[0]).sum(1)
    best = int(total.argmin())
    return float(errors.thresholds[best]), limit


class _Errors:
    """Squared error of each value ([values]) under each candidate threshold ([candidates, values])."""

    def __init__(self, thresholds: Tensor, per_value: Tensor) -> None:
        self.thresholds = thresholds
        self.per_value = per_value


def _squared_errors(
    values: Tensor, weights: Tensor, limit: float, code: MultiThresholdCode, per_octave: int
) -> _Errors:
    steps = torch.arange(per_octave * _OCTAVES_SEARCHED, dtype=torch.float64)
    thresholds = limit * 2.0 ** (-steps / per_octave)
    # Two points of each bin, so that no candidate is favoured because centres fall on its levels.
    spread = 0.25 / BINS_PER_OCTAVE
    per_value = torch.zeros(len(thresholds), len(values), dtype=torch.float64)
    for shift in (1 - spread, 1 + spread * 0.618):
        scaled = (values * shift).unsqueeze(0) / thresholds.unsqueeze(1) * (2 * code.levels)
        coded = accumulate(scaled.contiguous(), code)
        error = (coded - scaled) * thresholds.unsqueeze(1) / (2 * code.levels)
        per_value += error.square() * weights
    return _Errors(thresholds, per_value)
