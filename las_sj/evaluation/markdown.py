"""Tables of an evaluation: metrics and costs."""

import math
from collections.abc import Sequence

from las_sj.evaluation.result import TaskResult

HEADER = ("task", "metric", "ANN", "SNN", "difference", "95 % interval", "same predictions")
COSTS = (
    "task",
    "number",
    "time, SNN / ANN",
    "spikes per neuron",
    "energy, SNN / ANN: paper",
    "level-aware",
    "with memory",
)


def metric_rows(results: Sequence[TaskResult]) -> list[list[str]]:
    """Cells under `HEADER`."""
    return [
        [
            result.task,
            m.metric,
            figure(m.ann),
            figure(m.snn),
            figure(m.difference, "+"),
            "" if math.isnan(m.low) else f"{figure(m.low, '+')} … {figure(m.high, '+')}",
            "" if result.agreement is None else f"{100 * result.agreement:.2f} %",
        ]
        for result in results
        for m in result.measures
    ]


def figure(value: float, sign: str = "") -> str:
    """Four places, or as many digits as people read; what is not zero does not look like it."""
    if 0 < abs(value) < 5e-5:
        return f"{value:{sign}.1e}"
    return f"{value:{sign}.4f}" if abs(value) < 1e5 else f"{value:{sign}.4g}"


def cost_rows(results: Sequence[TaskResult]) -> list[list[str]]:
    """Cells under `COSTS`."""
    return [_costs(result) for result in results]


def _costs(result: TaskResult) -> list[str]:
    energy = [
        f"{result.energy[name]:.3f}" if name in result.energy else ""
        for name in ("paper", "level_aware", "with_memory")
    ]
    spikes = "" if result.spikes_per_neuron is None else f"{result.spikes_per_neuron:.3f}"
    return [result.task, f"{result.rows:,} {result.unit}", f"{result.time_ratio:.2f}", spikes, *energy]
