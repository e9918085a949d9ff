"""The codes that a population may have, each with the loss that it is expected to cause and what it costs."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from zlib import crc32

import torch
from torch import Tensor

from las_sj.models import Site
from las_sj.neurons import MultiThresholdCode, OATNode, ThresholdNode
from las_sj.neurons.code import emit_steps
from las_sj.neurons.responses import outcomes
from las_sj.neurons.thresholds import bin_centres
from las_sj.optimisation.sensitivity import Sensitivity

LARGER = 7  # thresholds are, by less than 2^-7
OCTAVES_TRIED = 12  # of normal thresholds below the largest magnitude


@dataclass(frozen=True)
class MassiveThresholds:
    """Base thresholds of massive channels.

    Attributes:
        channels: which they are, bool [C].
        normal, outlier: the thresholds.
    """

    channels: Tensor = field(compare=False, repr=False)
    normal: float
    outlier: float

    @property
    def count(self) -> int:
        """How many channels these are."""
        return int(self.channels.sum())

    def to_dict(self) -> dict[str, float]:
        """Plain values, for JSON."""
        return {"channels": self.count, "theta_normal": self.normal, "theta_outlier": self.outlier}


@dataclass(frozen=True)
class Choice:
    """A code and thresholds of one population.

    Attributes:
        code: levels and spike limit.
        theta_normal, theta_outlier: base thresholds; equal where nothing is coded as an outlier.
        loss: divergence that its errors are expected to cause, per prediction.
        spikes: of the calibration data.
        pj: energy of these spikes.
        massive: thresholds of channels that have their own; None where there are none.
    """

    code: MultiThresholdCode
    theta_normal: float
    theta_outlier: float
    loss: float
    spikes: float
    pj: float
    massive: MassiveThresholds | None = None

    @property
    def thresholds(self) -> tuple[float | Tensor, float | Tensor]:
        """θ_normal and θ_outlier: one for all channels, or one for each, [C]."""
        own = self.massive
        if own is None:
            return self.theta_normal, self.theta_outlier
        normal = torch.where(own.channels, own.normal, self.theta_normal)
        return normal, torch.where(own.channels, own.outlier, self.theta_outlier)


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
        seen: its sensitivity; thresholds of massive channels are chosen apart, where it knows of any.
        price: of a spike with so many levels, pJ.
        codes: that may be chosen.
        headroom: the range is this much larger than the largest magnitude that was seen.

    Returns:
        An empty list where the population has seen nothing but zeros, or no value of it moves the first output (a
        pooler's do not where hidden states are that): it keeps its code.
    """
    assert isinstance(site.node, ThresholdNode)
    if seen.massive is None or not all(_matters(part) for part in seen.parts):
        of_codes = (_of_code(name, site, seen.whole, price, code, headroom) for code in codes)
        return lower_hull(chain.from_iterable(of_codes))
    found: list[Choice] = []
    for code in codes:
        ordinary, massive = (lower_hull(_of_code(name, site, part, price, code, headroom)) for part in seen.parts)
        found += together(ordinary, massive, seen.massive.channels)
    return lower_hull(found)


def spikes_of(site: Site, seen: Sensitivity, code: MultiThresholdCode) -> float:
    """How many spikes a population emits for the values that were seen, by a code, with the thresholds that it has."""
    node = site.node
    assert isinstance(node, ThresholdNode)
    counts = seen.whole.counts
    bins = torch.nonzero(counts).squeeze(1)
    centres = bin_centres()[bins].to(node.thresholds[0])
    w = centres / node.alpha_of(centres, 0.5 / code.levels)
    fired = torch.stack([step != 0 for step in emit_steps(w, code)]).sum(0)
    return float((fired.cpu() * counts[bins]).sum())


def _matters(seen: Sensitivity) -> bool:
    return seen.largest > 0.0 and bool(seen.weights.any())


def _of_code(
    name: str,
    site: Site,
    seen: Sensitivity,
    price: Callable[[int], float],
    code: MultiThresholdCode,
    headroom: float,
) -> Iterator[Choice]:
    """Choices of one code, for values that were seen."""
    if not _matters(seen):
        return
    assert isinstance(site.node, ThresholdNode)
    has_outliers = isinstance(site.node, OATNode) and getattr(site.node, "outlier_aware", True)
    limit = site.upper_bound or seen.largest * headroom
    finest = limit * 2.0**-OCTAVES_TRIED if has_outliers else limit
    units = site.node.power_of_two_units
    larger = 1.0 if units else 1 + crc32(name.encode()) * 2.0 ** -(32 + LARGER)
    outcome = outcomes(seen.counts, seen.weights, limit, code, finest, power_of_two_units=units)
    columns = (outcome.theta_normal, outcome.theta_outlier, outcome.error, outcome.spikes)
    for normal, outlier, loss, spikes in zip(*(column.tolist() for column in columns), strict=True):
        if normal == outlier or has_outliers:
            yield Choice(code, normal * larger, outlier * larger, loss, spikes, spikes * price(code.levels))


def together(ordinary: Sequence[Choice], massive: Sequence[Choice], channels: Tensor) -> Iterator[Choice]:
    """Choices of one code for both kinds of channels, from two hulls: the step of the steeper slope comes first."""
    left, right = 0, 0
    while True:
        one, other = ordinary[left], massive[right]
        thresholds = MassiveThresholds(channels, other.theta_normal, other.theta_outlier)
        sums = (one.loss + other.loss, one.spikes + other.spikes, one.pj + other.pj)
        yield Choice(one.code, one.theta_normal, one.theta_outlier, *sums, thresholds)
        steps = [
            slope(hull[place], hull[place + 1]) if place + 1 < len(hull) else math.inf
            for hull, place in ((ordinary, left), (massive, right))
        ]
        if min(steps) == math.inf:
            return
        left, right = (left + 1, right) if steps[0] <= steps[1] else (left, right + 1)


def lower_hull(choices: Iterable[Choice]) -> list[Choice]:
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
