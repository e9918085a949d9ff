"""The search for the cheapest network that keeps a promise: statistics, a plan, and rounds of measuring and mending."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from las_sj.analysis import SpikeMonitor
from las_sj.checkpoint.placement import input_device
from las_sj.config import LASConfig
from las_sj.conversion.all_or_nothing import all_or_nothing, made_undone
from las_sj.conversion.calibration import checked_batch
from las_sj.conversion.convert import convert
from las_sj.data.batches import Batch, to_device
from las_sj.models import Site, running
from las_sj.models.execution import is_converted
from las_sj.models.site_codes import SiteCode
from las_sj.neurons import MTNode, MultiThresholdCode, OATNode
from las_sj.optimisation.budget import budget_of
from las_sj.optimisation.choices import Choice, choices_for
from las_sj.optimisation.divergence import predicts
from las_sj.optimisation.errors import OptimisationError
from las_sj.optimisation.goal import LEAST_STEPS, Goal
from las_sj.optimisation.measurement import Measurement, measure
from las_sj.optimisation.plan import Plan, plan_for_energy, plan_for_loss
from las_sj.optimisation.result import Optimisation
from las_sj.optimisation.sensitivity import coding_sites, gather
from las_sj.optimisation.statistics import Statistics
from las_sj.optimisation.unfinished import Finished

ROUNDS = 6
CLOSE = 0.88  # of the loss that is allowed: nearer is not looked for
SAME = 1.01  # ratios of energies that count as equal: fewer time steps win

Hulls = dict[str, list[Choice]]


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
        config: settings of the conversion; its T is the largest that is tried. None: the defaults.
        calibration: dicts of keyword arguments.
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
        OptimisationError: the goal is out of reach, or there is no data.
        UnsupportedModelError, CalibrationError, StructureError: as `convert` does.

    The model is as it was after any of them.
    """
    goal = Goal(loss, energy, accounting, binary)
    config = config or LASConfig()
    if is_converted(model):
        raise OptimisationError("the model is converted already: load the original to optimise it")
    if config.site_codes or config.max_spikes is not None:
        raise OptimisationError("site_codes and max_spikes are chosen by the optimisation: leave them out")
    batches = [checked_batch(batch) for batch in calibration] or [checked_batch(None)]
    others = [checked_batch(batch) for batch in check]
    if not others:
        raise OptimisationError("there is no data to check on: give at least one batch that is not calibrated on")
    with all_or_nothing(model):
        return _Search(model, config, goal, batches, others, finished or Finished()).run()


@dataclass(frozen=True)
class _Attempt:
    """T, the choices at it, and the least ratio that a plan for the goal is expected to have."""

    time_steps: int
    hulls: Hulls
    ratio: float


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
        # Errors of outputs that predict nothing add up as squares.
        self.as_loss: Callable[[float], float] = (lambda x: x) if predicts(model) else (lambda x: x * x)

    def run(self) -> Optimisation:
        """Search, and leave the model as the best plan has it."""
        first = replace(self.config, levels=1)
        with made_undone(self.model):
            convert(self.model, first, self.calibration)
            sites = coding_sites(self.model)
            statistics = self.finished.statistics(lambda: self._statistics(sites))
            tried = self._attempts(sites, statistics)
        best = self._best(tried)
        convert(self.model, replace(first, time_steps=best.time_steps), self.calibration)
        plan, rounds = self._mended(best, statistics)
        _put(self.model, plan)
        found = self._measured(plan)
        entry: Any = self.model.config.quantization_config
        entry.settings = replace(entry.settings, site_codes=tuple(_site_codes(plan, first.code)))
        ratios = {steps: None if attempt is None else attempt.ratio for steps, attempt in tried.items()}
        predicted = statistics.budget.ratio(plan.pj, best.time_steps, self.goal.accounting)
        return Optimisation(self.goal, best.time_steps, plan, predicted, found, rounds, ratios, self._is_kept(found))

    def _attempts(self, sites: dict[str, Site], statistics: Statistics) -> dict[int, _Attempt | None]:
        """T from the most on, until fewer steps take more than the least energy, or lose too much."""
        tried: dict[int, _Attempt | None] = {}
        most, least = self.config.time_steps, float("inf")
        for steps in range(most, min(most, LEAST_STEPS) - 1, -1):
            attempt = tried[steps] = self._attempt(steps, sites, statistics)
            if attempt is None or attempt.ratio > least * SAME:
                break
            least = min(least, attempt.ratio)
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
        hulls = {
            name: choices_for(
                name, site, seen[name], partial(budget.price, name, accounting=accounting), codes, self.config.headroom
            )
            for name, site in tqdm(sites.items(), desc=f"choices for T = {time_steps}", unit="site", leave=False)
        }
        if self.goal.loss is None:
            plan = plan_for_energy(hulls, budget.spikes_pj(self.goal.energy or 0.0, time_steps, accounting))
            return _Attempt(time_steps, hulls, plan.loss)
        plan = plan_for_loss(hulls, self.as_loss(self.goal.loss))
        if plan.loss > self.as_loss(self.goal.loss):
            return None
        return _Attempt(time_steps, hulls, budget.ratio(plan.pj, time_steps, accounting))

    def _best(self, tried: dict[int, _Attempt | None]) -> _Attempt:
        reached = [attempt for attempt in tried.values() if attempt is not None]
        if not reached:
            raise OptimisationError(
                f"a loss of {self.goal.loss:g} is out of reach with {max(tried)} time steps: allow more"
                + (", or levels" if self.goal.binary else "")
            )
        least = min(attempt.ratio for attempt in reached)
        return min((a for a in reached if a.ratio <= least * SAME), key=lambda attempt: attempt.time_steps)

    def _mended(self, best: _Attempt, statistics: Statistics) -> tuple[Plan, list[tuple[float, Measurement]]]:
        """The best plan that keeps the promise on the data of the check, and what was measured on the way."""
        rounds: list[tuple[float, Measurement]] = []
        kept: list[tuple[float, Plan]] = []
        for plan in self._plans(best, statistics, rounds):
            _put(self.model, plan)
            found = self._measured(plan)
            rounds.append((plan.loss, found))
            if self._is_kept(found):
                kept.append((plan.pj if self.goal.loss is not None else found.loss, plan))
        if not kept:
            asked = f"loss of {self.goal.loss:g}" if self.goal.loss is not None else f"energy of {self.goal.energy:g}"
            least = min(found.loss if self.goal.loss is not None else self._energy(found) for _, found in rounds)
            raise OptimisationError(f"a {asked} is out of reach on the data of the check: the least is {least:.4g}")
        return min(kept, key=lambda pair: pair[0])[1], rounds

    def _plans(self, best: _Attempt, statistics: Statistics, rounds: list[tuple[float, Measurement]]) -> Iterator[Plan]:
        """Plans to measure: each is made for what the ones before have shown that must be aimed at."""
        goal, budget = self.goal, statistics.budget
        aim = self.as_loss(goal.loss) if goal.loss is not None else float(goal.energy or 0.0)
        asked = aim
        for _ in range(ROUNDS):
            if goal.loss is not None:
                plan = plan_for_loss(best.hulls, aim)
            else:
                plan = plan_for_energy(best.hulls, budget.spikes_pj(aim, best.time_steps, goal.accounting))
            yield plan
            found = rounds[-1][1]
            reached = found.loss if goal.loss is not None else self._energy(found)
            if CLOSE * asked <= reached <= asked:
                return
            aim *= asked * (1 + CLOSE) / 2 / max(reached, 1e-3 * asked)

    def _measured(self, plan: Plan) -> Measurement:
        key = f"{plan.loss!r} {plan.pj!r}"
        return self.finished.measurement(key, lambda: measure(self.model, self.check, "checking"))

    def _energy(self, found: Measurement) -> float:
        return found.ratios[self.goal.accounting]

    def _is_kept(self, found: Measurement) -> bool:
        if self.goal.loss is not None:
            return found.loss <= self.as_loss(self.goal.loss)
        return self._energy(found) <= float(self.goal.energy or 0.0)


def _put(model: PreTrainedModel, plan: Plan) -> None:
    """Give populations their codes and thresholds."""
    for name, site in coding_sites(model).items():
        choice, node = plan.choices.get(name), site.node
        if choice is None:
            continue
        assert isinstance(node, OATNode | MTNode)
        node.code = choice.code
        if isinstance(node, OATNode):
            node.theta_normal.data.fill_(choice.theta_normal)
            node.theta_outlier.data.fill_(choice.theta_outlier)
        else:
            node.theta.data.fill_(choice.theta_outlier)


def _site_codes(plan: Plan, common: MultiThresholdCode) -> Iterator[SiteCode]:
    """The codes that differ from the common one."""
    for name, choice in plan.choices.items():
        if (choice.code.levels, choice.code.max_spikes) != (common.levels, common.max_spikes):
            yield SiteCode(name, choice.code.levels, choice.code.max_spikes)
