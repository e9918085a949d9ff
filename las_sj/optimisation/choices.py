"""The codes that a population may have, each with the loss that it is expected to cause and what it costs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from zlib import crc32

from las_sj.models import Site
from las_sj.neurons import MultiThresholdCode, OATNode, ThresholdNode
from las_sj.neurons.responses import outcomes
from las_sj.optimisation.sensitivity import Sensitivity

LARGER = 7  # thresholds are, by less than 2^-7
OCTAVES_TRIED = 12  # of normal thresholds below the largest magnitude


@dataclass(frozen=True)
class Choice:
    """A code and thresholds of one population.

    Attributes:
        code: levels and spike limit.
        theta_normal, theta_outlier: base thresholds; equal where nothing is coded as an outlier.
        loss: divergence that its errors are expected to cause, per prediction.
        spikes: of the calibration data.
        pj: energy of these spikes.
    """

    code: MultiThresholdCode
    theta_normal: float
    theta_outlier: float
    loss: float
    spikes: float
    pj: float


def choices_for(
    name: str,
    site: Site,
    seen: Sensitivity,
    price: Callable[[int], float],
    codes: Sequence[MultiThresholdCode],
    headroom: float,
) -> list[Choice]:
    """The choices of a population that no other one beats, from the least to the largest energy.

    They are the lower convex hull of loss over energy: what lies above it is beaten by a mixture of two others.

    Args:
        name: of the node, by which its thresholds are a little larger than those of the tables. Sums of spikes of one
            population would otherwise often lie just between two of another, where rounding decides.
        site: the population.
        seen: its sensitivity.
        price: of a spike with so many levels, pJ.
        codes: that may be chosen.
        headroom: the range is this much larger than the largest magnitude that was seen.

    Returns:
        None where the population has seen nothing but zeros, or no value of it moves the first output (a pooler's
        do not where hidden states are that): it keeps its code.
    """
    if seen.largest == 0.0 or not bool(seen.weights.any()):
        return []
    assert isinstance(site.node, ThresholdNode)
    has_outliers = isinstance(site.node, OATNode) and getattr(site.node, "outlier_aware", True)
    limit = site.upper_bound or seen.largest * headroom
    finest = limit * 2.0**-OCTAVES_TRIED if has_outliers else limit
    found: list[Choice] = []
    larger = 1.0 if site.node.power_of_two_units else 1 + crc32(name.encode()) * 2.0 ** -(32 + LARGER)
    for code in codes:
        outcome = outcomes(
            seen.counts, seen.weights, limit, code, finest, power_of_two_units=site.node.power_of_two_units
        )
        columns = (outcome.theta_normal, outcome.theta_outlier, outcome.error, outcome.spikes)
        for normal, outlier, loss, spikes in zip(*(column.tolist() for column in columns), strict=True):
            if normal != outlier and not has_outliers:
                continue
            pj = spikes * price(code.levels)
            found.append(Choice(code, normal * larger, outlier * larger, loss, spikes, pj))
    return lower_hull(found)


def lower_hull(choices: Sequence[Choice]) -> list[Choice]:
    """The choices on the lower convex hull of loss over energy, each with less loss than the one before."""
    hull: list[Choice] = []
    for choice in sorted(choices, key=lambda choice: (choice.pj, choice.loss, choice.spikes)):
        if hull and choice.loss >= hull[-1].loss:
            continue
        while len(hull) > 1 and slope(hull[-2], choice) <= slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(choice)
    return hull


def slope(coarse: Choice, fine: Choice) -> float:
    """Loss per pJ, negative, between two choices; minus infinity where the finer one costs nothing more."""
    pj = fine.pj - coarse.pj
    return (fine.loss - coarse.loss) / pj if pj > 0 else -math.inf
