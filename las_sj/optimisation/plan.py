"""Which code each population gets: the least energy for a loss, by Lagrange multiplier."""

import hashlib
import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from las_sj.optimisation.choices import Choice, slope


@dataclass(frozen=True)
class Plan:
    """A choice for each population.

    Attributes:
        choices: by the name of the node.
        loss: divergence that all of them are expected to cause.
        pj: energy of their spikes, on the calibration data.
        gap: how many pJ more than the best of all combinations of choices it may take, at most.
    """

    choices: dict[str, Choice]
    loss: float
    pj: float
    gap: float

    @property
    def digest(self) -> str:
        """Tells networks apart that a model becomes by plans: a digest of codes and thresholds alone."""
        choices = [
            (name, choice.code, choice.theta_normal, choice.theta_outlier, choice.massive)
            for name, choice in sorted(self.choices.items())
        ]
        return hashlib.sha256(repr(choices).encode()).hexdigest()[:16]


def plan_for_loss(hulls: Mapping[str, Sequence[Choice]], loss: float) -> Plan:
    """The plan of least energy with at most that loss, as far as choices allow.

    All populations begin with their coarsest choice; the step that saves most loss per pJ is taken, until the loss is
    reached. On convex hulls that is optimal but for the last step, of which the energy bounds what it leaves.

    Args:
        hulls: of each population, as `choices_for` returns.
        loss: that is allowed.
    """
    return _refined(hulls, lambda total, pj: total <= loss)


def plan_for_energy(hulls: Mapping[str, Sequence[Choice]], pj: float) -> Plan:
    """The plan of least loss whose spikes take about `pj`: the first, from the coarsest on, that reaches it."""
    return _refined(hulls, lambda total, spent: spent >= pj)


def _refined(hulls: Mapping[str, Sequence[Choice]], is_enough: Callable[[float, float], bool]) -> Plan:
    places = {name: 0 for name, hull in hulls.items() if hull}
    loss = sum(hulls[name][0].loss for name in places)
    pj = sum(hulls[name][0].pj for name in places)
    steps = [(slope(hulls[name][0], hulls[name][1]), name) for name in places if len(hulls[name]) > 1]
    heapq.heapify(steps)
    gap = 0.0
    while steps and not is_enough(loss, pj):
        _, name = heapq.heappop(steps)
        hull, place = hulls[name], places[name]
        loss += hull[place + 1].loss - hull[place].loss
        gap = hull[place + 1].pj - hull[place].pj
        pj += gap
        places[name] = place + 1
        if place + 2 < len(hull):
            heapq.heappush(steps, (slope(hull[place + 1], hull[place + 2]), name))
    return Plan({name: hulls[name][place] for name, place in places.items()}, loss, pj, gap)
