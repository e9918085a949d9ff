"""What came of a training step of FAS."""

from dataclasses import dataclass
from typing import Any

from las_sj.fas_config import FASConfig
from las_sj.training.settings import TrainingSettings
from las_sj.training.train import Course

Quality = dict[str, dict[str, float]]  # by "ann", "quantised" or "spiking", and by metric


@dataclass(frozen=True)
class TrainingReport:
    """What came of a training step of FAS.

    Attributes:
        step: "pretrain" or "finetune".
        model: what it began with.
        architecture: class of the model.
        new_head: whether the head was random at the beginning.
        head_of: names of the classes of another task, whose head it began with; empty otherwise.
        config: settings of the network.
        training: settings of the training.
        data: what it was trained and measured on.
        before, after: what the models do on held-out rows.
        thresholds_before, thresholds_after: by site.
        taken: sites whose thresholds came from the checkpoint of the step before.
        course: how the training went.
    """

    step: str
    model: str
    architecture: str
    new_head: bool
    head_of: list[str]
    config: FASConfig
    training: TrainingSettings
    data: dict[str, Any]
    before: Quality
    after: Quality
    thresholds_before: dict[str, float]
    thresholds_after: dict[str, float]
    taken: list[str]
    course: Course

    def to_dict(self) -> dict[str, Any]:
        """The content of fas.json."""
        sites = {
            name: {"before": self.thresholds_before[name], "after": after, "of_checkpoint": name in self.taken}
            for name, after in self.thresholds_after.items()
        }
        return {
            "step": self.step,
            "model": self.model,
            "architecture": self.architecture,
            "new_head": self.new_head,
            "head_of": self.head_of,
            "data": self.data,
            "settings": self.config.to_dict(),
            "training": self.training.to_dict(),
            "quality": {"before": self.before, "after": self.after},
            "thresholds": sites,
            "steps": self.course.steps,
            "losses": [list(point) for point in self.course.losses],
            "resumed_from": self.course.resumed_from,
            "seed": self.training.seed,
            "seconds": self.course.seconds,
        }

    def summary(self) -> str:
        """Lines for the terminal."""
        lines = [f"{self.step} of {self.architecture}: {self.course.steps} steps in {self.course.seconds:.1f} s"]
        if self.new_head:
            lines.append("the checkpoint has no head for this, so that it began with random weights")
        if self.head_of:
            lines.append(began_with(self.head_of))
        new = [name for name in self.thresholds_after if name not in self.taken]
        if self.taken:
            lines.append(f"thresholds of {len(self.taken)} sites come from {self.model}, of {len(new)} from data")
        for when, quality in (("before", self.before), ("after", self.after)):
            lines += [f"{when:6}  {self._name(kind):31}  {words_of(found)}" for kind, found in quality.items()]
        return "\n".join(lines)

    def _name(self, kind: str) -> str:
        names = {"ann": "ANN", "quantised": f"quantised ANN (L = {self.config.levels})"}
        return names.get(kind, f"SNN, uncalibrated (T = {self.config.time_steps})")


def began_with(classes: list[str]) -> str:
    """What is said where a head was trained for other classes before, for a terminal."""
    return f"the head began as that of another task, which tells {', '.join(classes)} apart"


def words_of(found: dict[str, float]) -> str:
    """Metrics and their values, for a terminal."""
    return ", ".join(f"{name} {value:.4f}" for name, value in found.items())
