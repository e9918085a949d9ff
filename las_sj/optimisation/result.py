"""What an optimisation chose, and what came of it."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from las_sj.analysis.tables import markdown_table
from las_sj.optimisation.choices import Choice
from las_sj.optimisation.goal import Goal
from las_sj.optimisation.measurement import Measurement
from las_sj.optimisation.plan import Plan

COLUMNS = (
    "site",
    "levels",
    "spikes at most",
    "θ normal",
    "last step",
    "channels apart",
    "loss, share",
    "energy, share",
)


@dataclass(frozen=True)
class Optimisation:
    """A network whose populations have codes of their own.

    Attributes:
        goal: what was asked for.
        time_steps: T that was chosen.
        plan: the choices.
        predicted_loss: what the plan is expected to lose.
        predicted_ratio: energy of the network over that of the ANN, on the calibration data.
        checked: what it loses and costs on data that it was not calibrated on.
        rounds: each plan that was measured: the loss that it was made for, and what came of it.
        steps_tried: T, and what was predicted for each: energy, or loss where energy is given; None where out of reach.
    """

    goal: Goal
    time_steps: int
    plan: Plan
    predicted_loss: float
    predicted_ratio: float
    checked: Measurement
    rounds: list[tuple[float, Measurement]]
    steps_tried: dict[int, float | None]

    def to_dict(self) -> dict[str, Any]:
        """The entry `optimization` of las_report.json."""
        goal = self.goal
        return {
            "loss": goal.loss,
            "energy": goal.energy,
            "accounting": goal.accounting,
            "binary": goal.binary,
            "time_steps": self.time_steps,
            "steps_tried": {str(steps): ratio for steps, ratio in self.steps_tried.items()},
            "predicted_loss": self.predicted_loss,
            "predicted_ratio": self.predicted_ratio,
            "gap_pj": self.plan.gap,
            "checked": self.checked.to_dict(),
            "rounds": [{"planned_loss": planned, **found.to_dict()} for planned, found in self.rounds],
            "sites": {name: self._site(choice) for name, choice in self.plan.choices.items()},
        }

    def _site(self, choice: Choice) -> dict[str, Any]:
        return {
            "levels": choice.code.levels,
            "max_spikes": choice.code.max_spikes,
            "theta_normal": choice.theta_normal,
            "theta_outlier": choice.theta_outlier,
            "massive": None if choice.massive is None else choice.massive.to_dict(),
            "loss": choice.loss,
            "energy_share": choice.pj / self.plan.pj if self.plan.pj else 0.0,
        }

    def to_markdown(self) -> str:
        """A section for las_report.md: what was asked for, what came of it, and who got what."""
        lines = [
            self.summary(),
            "",
            "A site gets a finer last step where its errors do more to the output than its spikes cost. Channels apart "
            "are massive ones, which have thresholds of their own.",
            "",
            *markdown_table(COLUMNS, self._rows()),
        ]
        return "\n".join(lines) + "\n"

    def summary(self) -> str:
        """What was asked for and what came of it, in Markdown."""
        return "\n".join(["## Optimisation", "", *markdown_table(("", "on the data of the check"), self._summary())])

    def _summary(self) -> list[tuple[str, str]]:
        goal, found = self.goal, self.checked
        asked = f"loss of {100 * goal.loss:g} %" if goal.loss is not None else f"energy of {goal.energy:g}"
        codes = Counter(choice.code.levels for choice in self.plan.choices.values())
        rows = [
            ("asked for", f"{asked}, {goal.accounting.replace('_', '-')} accounting" + ", binary" * goal.binary),
            ("loss there", f"{100 * found.loss:.3f} ± {100 * found.loss_interval:.3f} %"),
            *([] if found.perplexity_change is None else [("perplexity there", self._perplexity())]),
            *((f"energy there, {name}", f"{ratio:.3f}") for name, ratio in found.ratios.items()),
            ("time steps", str(self.time_steps)),
            ("sites by levels", ", ".join(f"{count} with {levels}" for levels, count in sorted(codes.items()))),
            ("rounds of measuring and mending", str(len(self.rounds))),
        ]
        return rows

    def _perplexity(self) -> str:
        return f"{self.checked.perplexity_change:+.3f} ± {self.checked.perplexity_interval:.3f} %"

    def _rows(self) -> list[tuple[str, ...]]:
        loss, pj = self.plan.loss or 1.0, self.plan.pj or 1.0
        return [
            (
                name,
                str(choice.code.levels),
                "no limit" if choice.code.max_spikes is None else str(choice.code.max_spikes),
                f"{choice.theta_normal:.4g}",
                f"{choice.theta_normal * 2.0**-choice.code.time_steps:.3g}",
                "" if choice.massive is None else str(choice.massive.count),
                f"{100 * choice.loss / loss:.2f} %",
                f"{100 * choice.pj / pj:.2f} %",
            )
            for name, choice in self.plan.choices.items()
        ]
