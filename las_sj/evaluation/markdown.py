"""The report of an evaluation as Markdown."""

import math
from collections.abc import Sequence
from typing import Any

from las_sj.analysis.tables import markdown_table
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


def to_markdown(report: dict[str, Any], results: Sequence[TaskResult]) -> str:
    """Metrics, costs, and what they are of."""
    settings = report["settings"]
    lines = [
        f"# {report['model']}, ANN beside SNN",
        "",
        f"{report['architecture']}, T = {settings['time_steps']}, {settings['levels']} levels, {settings['rounding']}, "
        f"{report['execution']} execution, {report['date']}.",
        "",
        *markdown_table(HEADER, metric_rows(results)),
        "",
        *markdown_table(COSTS, [_costs(result) for result in results]),
        "",
        *(f"- {result.task}: {result.description}" for result in results),
        "- intervals: bootstrap of the difference over the rows (windows of a text), both models' rows drawn together",
        *_no_width(results),
        "- time: of the models' calls, without counting spikes; spikes and energy: of some of the batches",
    ]
    return "\n".join(lines) + "\n"


def _no_width(results: Sequence[TaskResult]) -> list[str]:
    """A bootstrap knows the rows it has alone: what no row shows is not excluded (rule of three)."""
    if not any(m.low == m.high == 0.0 for result in results for m in result.measures):
        return []
    return ["- an interval of no width: of n rows none changed; of other rows, up to 3/n may (95 % confidence)"]


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


def _costs(result: TaskResult) -> list[str]:
    energy = [
        f"{result.energy[name]:.3f}" if name in result.energy else ""
        for name in ("paper", "level_aware", "with_memory")
    ]
    spikes = "" if result.spikes_per_neuron is None else f"{result.spikes_per_neuron:.3f}"
    return [result.task, f"{result.rows:,} {result.unit}", f"{result.time_ratio:.2f}", spikes, *energy]
