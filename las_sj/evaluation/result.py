"""What an evaluation found about a task, ANN beside SNN."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from las_sj.evaluation.errors import SourceError

CONFIDENCE = 0.95
RESAMPLES = 2000
BATCH = 50  # resamples whose row numbers are held at a time


@dataclass(frozen=True)
class Measure:
    """One metric.

    Attributes:
        metric: its name.
        ann, snn: its values.
        low, high: the 95 % interval of snn − ann, by bootstrap over the rows; NaN where there is one row only.
    """

    metric: str
    ann: float
    snn: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """snn − ann."""
        return self.snn - self.ann


@dataclass(frozen=True)
class TaskResult:
    """One task.

    Attributes:
        task: its name.
        description: data and conventions, in words.
        rows: how many were scored; what they are says `unit`.
        unit: "rows", "tokens", "questions".
        measures: the task's metrics.
        agreement: share of rows for which both predict the same; None where there is no such thing.
        ann_seconds, snn_seconds: time of the calls.
        spikes_per_neuron, energy: of a part of the batches; `energy` is SNN/ANN by accounting.
    """

    task: str
    description: str
    rows: int
    unit: str
    measures: list[Measure]
    agreement: float | None
    ann_seconds: float
    snn_seconds: float
    spikes_per_neuron: float | None = None
    energy: dict[str, float] = field(default_factory=dict)

    @property
    def time_ratio(self) -> float:
        """Seconds of the SNN over those of the ANN."""
        return self.snn_seconds / self.ann_seconds if self.ann_seconds else float("nan")

    def check_finite(self) -> None:
        """Raise a SourceError where a metric is infinite or NaN, which tables and JSON could only leave out."""
        for measure in self.measures:
            for name, value in (("ANN", measure.ann), ("SNN", measure.snn)):
                if not math.isfinite(value):
                    found = f"{self.task}: the {measure.metric} of the {name} is {value}"
                    raise SourceError(f"{found}: check the model's weights, or use --dtype float32")

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON, which has no infinity and no NaN: they are None."""
        values = asdict(self) | {"time_ratio": self.time_ratio}
        for measure, entry in zip(self.measures, values["measures"], strict=True):
            entry["difference"] = measure.difference
        finite: dict[str, Any] = _finite(values)
        return finite


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def measure(metric: str, score: Callable[[np.ndarray], float], sides: Sequence[np.ndarray], seed: int) -> Measure:
    """A metric of both models, and an interval of the difference: rows are drawn again, for both models the same.

    Args:
        metric: its name.
        score: the metric of rows.
        sides: what the ANN and the SNN made of each row and what it is compared with, [rows, …] each.
        seed: of the draws.
    """
    from scipy.stats import bootstrap

    ann, snn = sides
    values = score(ann), score(snn)
    if len(ann) < 2:
        return Measure(metric, *values, low=math.nan, high=math.nan)
    if np.array_equal(ann, snn):
        return Measure(metric, *values, low=0.0, high=0.0)
    interval = bootstrap(
        (np.arange(len(ann)),),
        lambda drawn: score(snn[drawn]) - score(ann[drawn]),
        n_resamples=RESAMPLES,
        batch=BATCH,
        confidence_level=CONFIDENCE,
        method="percentile",
        vectorized=False,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Measure(metric, *values, low=float(interval.low), high=float(interval.high))
