"""What an evaluation found: evaluation.json and evaluation.md."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from las_sj.analysis.tables import markdown_table
from las_sj.config import LASConfig
from las_sj.evaluation.markdown import COSTS, HEADER, cost_rows, metric_rows
from las_sj.evaluation.result import TaskResult
from las_sj.fas_config import FASConfig

INTERVALS = (
    "- intervals: bootstrap of the difference over the rows (windows of a text), both models' rows drawn together"
)
# A bootstrap knows the rows it has alone: what no row shows is not excluded (rule of three).
NO_WIDTH = "- an interval of no width: of n rows none changed; of other rows, up to 3/n may (95 % confidence)"
TIME = "- time: of the models' calls, without counting spikes; spikes and energy: of some of the batches"
VERSIONED = ("las_sj", "torch", "transformers", "tokenizers", "datasets", "lm_eval")


@dataclass(frozen=True)
class RunSettings:
    """What finished batches depend on, but for the model and for the batches themselves.

    Attributes:
        batch_size: rows, windows, requests or questions.
        limit: rows, tokens or questions of each task; None for all.
        window, stride: of texts, in tokens; a stride of None is half the window.
        execution: "accumulated" or "temporal".
        dtype: of the weights; None where it was not asked for.
        device: of the weights.
        seed: of the bootstrap.
        versions: of the packages that compute.
    """

    batch_size: int
    limit: int | None
    window: int
    stride: int | None
    execution: str
    dtype: str | None
    device: str
    seed: int
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class EvaluationReport:
    """An evaluation.

    Attributes:
        model: that was evaluated.
        architecture: its class.
        settings: of its conversion.
        run: how the tasks were run.
        files: that were given, by the name of their option.
        date: year, month and day.
        results: of the tasks.
        ann_is: what the ANN is, in words, where it is not the original.
    """

    model: str
    architecture: str
    settings: LASConfig | FASConfig
    run: RunSettings
    files: dict[str, str | None]
    date: str
    results: Sequence[TaskResult]
    ann_is: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The content of evaluation.json."""
        return {
            "model": self.model,
            "architecture": self.architecture,
            "settings": self.settings.to_dict(),
            "ann": self.ann_is or "the original",
            **self.run.to_dict(),
            **self.files,
            "date": self.date,
            "tasks": [result.to_dict() for result in self.results],
        }

    def summary(self) -> str:
        """For the terminal: all of it, which is short."""
        return self.to_markdown()

    def to_markdown(self) -> str:
        """The content of evaluation.md: metrics, costs, and what they are of."""
        settings, results = self.settings, self.results
        lines = [
            f"# {self.model}, ANN beside SNN",
            "",
            f"{self.architecture}, {settings.in_words}, {self.run.execution} execution, {self.date}."
            + (f" ANN: {self.ann_is}." if self.ann_is else ""),
            "",
            *markdown_table(HEADER, metric_rows(results)),
            "",
            *markdown_table(COSTS, cost_rows(results)),
            "",
            *(f"- {result.task}: {result.description}" for result in results),
            *self._notes(),
        ]
        return "\n".join(lines) + "\n"

    def _notes(self) -> list[str]:
        """How to read the tables."""
        no_width = any(m.low == m.high == 0.0 for result in self.results for m in result.measures)
        return [INTERVALS, NO_WIDTH, TIME] if no_width else [INTERVALS, TIME]

    def bars(self) -> list[tuple[str, float, float, float, float]]:
        """For `plot_differences`: task and metric, the ANN's value, the difference, and its interval."""
        return [
            (f"{result.task}, {m.metric}", m.ann, m.difference, m.low, m.high)
            for result in self.results
            for m in result.measures
        ]


def installed_versions() -> dict[str, str]:
    """Versions of the packages that compute; "none" where one is not installed."""
    found = {}
    for name in VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found
