"""The search for the cheapest network that keeps a promise: statistics, a plan, and rounds of measuring and mending."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from las_sj.analysis import SpikeMonitor
from las_sj.checkpoint.placement import input_device, neuron_device
from las_sj.config import LASConfig
from las_sj.conversion.all_or_nothing import all_or_nothing, snapshot
from las_sj.conversion.calibration import checked_batch
from las_sj.conversion.convert import convert
from las_sj.data.batches import Batch, to_device
from las_sj.models import Site, running
from las_sj.models.execution import is_converted
from las_sj.models.site_codes import codes_of
from las_sj.neurons import MTNode, MultiThresholdCode, OATNode
from las_sj.neurons.threshold_node import as_threshold
from las_sj.optimisation.budget import budget_of
from las_sj.optimisation.choices import Choice, choices_for, spikes_of
from las_sj.optimisation.data import batches_for
from las_sj.optimisation.divergence import predicts
from las_sj.optimisation.errors import OptimisationError, OutOfReachError
from las_sj.optimisation.goal import FEW, LEAST_STEPS, Goal
from las_sj.optimisation.measurement import Measurement, measure
from las_sj.optimisation.plan import Plan, plan_for_energy, plan_for_loss
from las_sj.optimisation.result import Optimisation
from las_sj.optimisation.sensitivity import coding_sites, gather
from las_sj.optimisation.statistics import Statistics
from las_sj.optimisation.unfinished import Finished

ROUNDS = 6
CLOSE = 0.88  # of the loss that is allowed: nearer is not looked for
SAME = 1.01  # ratios of energies that count as equal: fewer time steps win
CHOSEN = ("levels", "max_spikes", "last_step", "site_codes")  # settings
HOPELESS = 0.2  # of the loss that is allowed: where plans for so little lose more, codes are not the reason

Hulls = dict[str, list[Choice]]
Rounds = list[tuple[Plan, Measurement]]


def optimize(
    model: PreTrainedModel,
    config: LASConfig | None = None,
    calibration: Iterable[Batch] = (),
    check: Iterable[Batch] = (),
    *,
    loss: float | None = None,
    energy: float | None = None,
    accounting: str = "level_aware",
    binary: bool = False,
    finished: Finished | None = None,
) -> Optimisation:
    """Convert a model so that it loses no more than is allowed, for the least energy; or the other way round.

    How much a coding error at each population moves the output is measured by gradients, on calibration data. Each
    population then gets the code and thresholds that take least energy at equal slope of loss over energy, for each T
    up to that of `config`. The plan is measured on the data of the check, and mended until it keeps the promise.

    Args:
        model: a Hugging Face model; converted in place, and left in the temporal execution.
        config: settings of the conversion; its T is the largest that is tried. None: the defaults. Levels, spike limits
            and the last step are chosen, and must be the defaults.
        calibration: dicts of keyword arguments; labels and other targets are left out.
        check: the same, of other data.
        loss: that is allowed, as of `Goal`.
        energy: that is allowed.
        accounting: of the energy.
        binary: whether spikes have no levels.
        finished: what is finished of the same optimisation already, and keeps what will be.

    Returns:
        What was chosen, and what came of it.

    Raises:
        ValueError: the goal is none.
        OutOfReachError: the goal is out of reach.
        OptimisationError: there is no data, a batch is all padding, or settings are given that are chosen.
        UnsupportedModelError, CalibrationError, StructureError: as `convert` does.

    The model is as it was after any of them.
    """
    goal = Goal(loss, energy, accounting, binary)
    config = config or LASConfig()
    if is_converted(model):
        raise OptimisationError("the model is converted already: load the original to optimise it")
    default = LASConfig()
    if any(getattr(config, name) != getattr(default, name) for name in CHOSEN):
        raise OptimisationError(f"{', '.join(CHOSEN)} are chosen by the optimisation: leave them out")
    batches = batches_for("calibration", calibration) or [checked_batch(None)]
    others = batches_for("the check", check)
    if not others:
        raise OptimisationError("there is no data to check on: give at least one batch that is not calibrated on")
    with all_or_nothing(model):
        return _Search(model, config, goal, batches, others, finished or Finished()).run()


@dataclass(frozen=True)
class _Attempt:
    """What T time steps can do.

    Attributes:
        time_steps: T.
        hulls: the choices.
        kept_pj: energy of the spikes of populations without choices, which keep their code.
        expected: what a plan for the goal is expected to have: an energy, or a loss.
    """

    time_steps: int
    hulls: Hulls
    kept_pj: float
    expected: float = math.nan


class _Search:
    def __init__(
        self,
        model: PreTrainedModel,
        config: LASConfig,
        goal: Goal,
        calibration: Sequence[Batch],
        check: Sequence[Batch],
        finished: Finished,
    ) -> None:
        self.model, self.config, self.goal = model, config, goal
        self.calibration, self.check, self.finished = calibration, check, finished

    def run(self) -> Optimisation:
        """Search, and leave the model as the best plan has it."""
        restore = snapshot(self.model)
        first = replace(self.config, levels=1)
        convert(self.model, first, self.calibration)
        sites = coding_sites(self.model)
        statistics = self.finished.statistics(lambda: self._statistics(sites))
        tried = self._attempts(sites, statistics)
        least = float("inf")
        for attempt in self._in_order(tried):
            restore()
            convert(self.model, replace(first, time_steps=attempt.time_steps), self.calibration)
            rounds = self._rounds(attempt, statistics)
            best = self._best(rounds)
            if best is not None:
                return self._finish(attempt, best, rounds, tried, statistics)
            least = min(least, *(self._reached(found) for _, found in rounds))
        raise OutOfReachError(
            f"{self._asked} is out of reach on the data of the check, the least there is {least:.4g}: allow more"
        )

    def _finish(
        self,
        attempt: _Attempt,
        plan: Plan,
        rounds: Rounds,
        tried: dict[int, _Attempt | None],
        statistics: Statistics,
    ) -> Optimisation:
        _put(self.model, plan)
        entry: Any = self.model.config.quantization_config
        entry.settings = replace(entry.settings, site_codes=codes_of(self.model, entry.settings.code))
        expected = {steps: None if other is None else other.expected for steps, other in tried.items()}
        predicted = statistics.budget.ratio(plan.pj + attempt.kept_pj, attempt.time_steps, self.goal.accounting)
        checked = next(found for measured, found in rounds if measured is plan)
        root = 1 / self._power
        measured = [(each.loss**root, found) for each, found in rounds]
        return Optimisation(
            self.goal, attempt.time_steps, plan, plan.loss**root, predicted, checked, measured, expected
        )

    def _attempts(self, sites: dict[str, Site], statistics: Statistics) -> dict[int, _Attempt | None]:
        """T from the most on, until fewer steps take more than the least energy, or lose too much.

        That is looked for twice: from the most on, and from `FEW` on, where there are more choices.
        """
        tried: dict[int, _Attempt | None] = {}
        most, least = self.config.time_steps, math.inf
        for begin, end in ((most, FEW), (min(most, FEW), min(most, LEAST_STEPS) - 1)):
            for steps in range(begin, end, -1):
                attempt = tried[steps] = self._attempt(steps, sites, statistics)
                if attempt is None or attempt.expected > least * SAME:
                    break
                least = min(least, attempt.expected)
        return tried

    def _statistics(self, sites: dict[str, Site]) -> Statistics:
        sensitivities = gather(self.model, self.calibration, self.config.seed)
        monitor = SpikeMonitor(self.model)
        with torch.no_grad(), running(self.model, "accumulated"), monitor:
            for batch in tqdm(self.calibration, desc="counting spikes", unit="batch", leave=False):
                self.model(**to_device(batch, input_device(self.model)))
        return Statistics(sensitivities, budget_of(monitor, sites))

    def _attempt(self, time_steps: int, sites: dict[str, Site], statistics: Statistics) -> _Attempt | None:
        """What T time steps can do; None where the loss is out of their reach."""
        codes = self.goal.codes(time_steps, self.config.rounding)
        budget, seen, accounting = statistics.budget, statistics.sensitivities.sites, self.goal.accounting
        known = {name: each if time_steps <= FEW else each.whole for name, each in seen.items()}
        hulls = {
            name: choices_for(
                name, site, known[name], partial(budget.price, name, accounting=accounting), codes, self.config.headroom
            )
            for name, site in tqdm(sites.items(), desc=f"choices for T = {time_steps}", unit="site", leave=False)
        }
        first = MultiThresholdCode(time_steps, 1, self.config.rounding)
        kept_pj = sum(
            spikes_of(sites[name], seen[name], first) * budget.price(name, first.levels, accounting)
            for name, hull in hulls.items()
            if not hull
        )
        attempt = _Attempt(time_steps, hulls, kept_pj)
        plan = self._plan(attempt, self._target, statistics)
        if self.goal.loss is None:
            return replace(attempt, expected=plan.loss ** (1 / self._power))
        ratio = budget.ratio(plan.pj + kept_pj, time_steps, accounting)
        return None if plan.loss > self._target**self._power else replace(attempt, expected=ratio)

    def _in_order(self, tried: dict[int, _Attempt | None]) -> list[_Attempt]:
        """The fewest time steps among those of about least energy, then more: errors that no code has are less there.

        Raises:
            OutOfReachError: the loss is out of reach of all.
        """
        reached = sorted((attempt for attempt in tried.values() if attempt is not None), key=lambda a: a.time_steps)
        if not reached:
            levels = ", or levels" if self.goal.binary else ""
            raise OutOfReachError(f"{self._asked} is out of reach with {max(tried)} time steps: allow more{levels}")
        least = min(attempt.expected for attempt in reached)
        first = next(number for number, attempt in enumerate(reached) if attempt.expected <= least * SAME)
        return reached[first:]

    def _rounds(self, attempt: _Attempt, statistics: Statistics) -> Rounds:
        """Plans, each made for what the ones before have shown that must be aimed at, and what came of them."""
        rounds: Rounds = []
        aim, kept, broken = self._target, 0.0, math.inf
        for _ in range(ROUNDS):
            plan = self._plan(attempt, aim, statistics)
            _put(self.model, plan)
            key = f"{attempt.time_steps} {plan.loss!r} {plan.digest}"
            found = self.finished.measurement(key, lambda: measure(self.model, self.check, "checking"))
            rounds.append((plan, found))
            reached = self._reached(found)
            hopeless = reached > self._target and aim < HOPELESS * self._target
            if hopeless or CLOSE * self._target <= reached <= self._target:
                break
            kept, broken = (max(kept, aim), broken) if reached <= self._target else (kept, min(broken, aim))
            aim *= self._target * (1 + CLOSE) / 2 / max(reached, 1e-3 * self._target)
            if not kept < aim < broken:  # what is reached is not proportional: halve what lies between
                aim = math.sqrt(kept * broken)
        return rounds

    def _best(self, rounds: Rounds) -> Plan | None:
        """The best of the plans that keep the promise on the data of the check."""
        kept = [(plan, found) for plan, found in rounds if self._reached(found) <= self._target]
        if self.goal.loss is not None:
            return min((plan for plan, _ in kept), key=lambda plan: plan.pj, default=None)
        return min(kept, key=lambda pair: pair[1].loss, default=(None, None))[0]

    def _plan(self, attempt: _Attempt, aim: float, statistics: Statistics) -> Plan:
        if self.goal.loss is not None:
            return plan_for_loss(attempt.hulls, aim**self._power)
        spikes_pj = statistics.budget.spikes_pj(aim, attempt.time_steps, self.goal.accounting)
        return plan_for_energy(attempt.hulls, spikes_pj - attempt.kept_pj)

    @property
    def _target(self) -> float:
        """What may not be exceeded: a loss or an energy."""
        target = self.goal.energy if self.goal.loss is None else self.goal.loss
        assert target is not None
        return target

    @property
    def _power(self) -> int:
        """Of a loss that is a sum over populations: errors of outputs that predict nothing add up as squares."""
        return 1 if predicts(self.model) else 2

    @property
    def _asked(self) -> str:
        return f"a loss of {self.goal.loss:g}" if self.goal.loss is not None else f"an energy of {self.goal.energy:g}"

    def _reached(self, found: Measurement) -> float:
        """What is not to exceed the target."""
        return found.loss if self.goal.loss is not None else found.ratios[self.goal.accounting]


def _put(model: PreTrainedModel, plan: Plan) -> None:
    """Give populations their codes and thresholds."""
    for name, site in coding_sites(model).items():
        choice, node = plan.choices.get(name), site.node
        if choice is None:
            continue
        assert isinstance(node, OATNode | MTNode)
        node.code = choice.code
        normal, outlier = choice.thresholds
        if isinstance(node, OATNode):
            node.theta_normal = as_threshold("theta_normal", normal)
            node.theta_outlier = as_threshold("theta_outlier", outlier)
        else:
            node.theta = as_threshold("theta", outlier)
        node.to(neuron_device(model, name.rpartition(".")[0]))
