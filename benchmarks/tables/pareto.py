"""Loss against energy of optimised networks: what `las_sj.optimize` makes of a loss that is allowed.

    PYTHONPATH=benchmarks python benchmarks/tables/pareto.py [CLASSIFIER …] [--only frontier] [--work DIR]

Without classifiers (folders of `python -m las_sj.finetune`) it is SmolLM2-135M on WikiText-2: calibrated on 2,048
tokens of the validation text, checked on as many others of it, and measured on the first 16,384 tokens of the raw test
text, in windows of 512. Classifiers are calibrated and checked on unlabelled test rows (training rows where there are
none), and measured on the development split. Prints a Markdown table. With --work, finished rows are kept: the same
command goes on after an interruption.
"""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from cases import Batches, Case, Row, cases, kept_row, metric_of, parser_of
from support import print_origin
from timing import print_header, print_row
from transformers import PreTrainedModel

import las_sj
from las_sj.analysis import SpikeMonitor, audit, energy_report, plot_pareto
from las_sj.analysis.energies.prices import EQUAL_LOSS
from las_sj.evaluation.digest import digest_of
from las_sj.neurons import CodingHGNode, HGNode
from las_sj.optimisation.goal import Goal
from las_sj.optimisation.measurement import Measurement, measure
from las_sj.optimisation.statistics import Statistics
from las_sj.optimisation.unfinished import Finished
from las_sj.reports.equal_loss import fewest_bits

AUDITED = 4  # tokens: stages do not depend on their number
LINES = 32  # of a population, where tables are small
COUNTED = 4  # batches of the test data whose spikes are counted for int8 weights
COLUMNS = (
    "goal",
    "T",
    "levels",
    "loss, check",
    "loss, test",
    "spikes per neuron",
    "paper",
    "level-aware",
    "with memory",
    "int8, equal loss",
    "minutes",
)


@dataclass(frozen=True)
class Point:
    """A row: a goal, the most time steps, and whether stages are few and tables small."""

    goal: Goal
    time_steps: int
    short: bool = False

    @property
    def config(self) -> las_sj.LASConfig:
        """Settings of the conversion."""
        lines = LINES if self.short else None
        return las_sj.LASConfig(time_steps=self.time_steps, fewer_stages=self.short, hg_lines=lines)

    @property
    def key(self) -> list[Any]:
        """What its row is kept under."""
        return [asdict(self.goal), self.time_steps, *([LINES] if self.short else [])]


POINTS = {
    "frontier": [Point(Goal(loss=loss), 16) for loss in (0.0015, 0.004, 0.006, 0.008)],
    "short": [Point(Goal(loss=0.004), 16, short=True)],
    "energy": [Point(Goal(energy=0.44), 10)],
    "binary": [Point(Goal(loss=loss, binary=True), 16) for loss in (0.004, 0.008)],
    "paper": [Point(Goal(loss=loss, accounting="paper"), 12) for loss in (0.0015, 0.004, 0.005)],
    "steps": [Point(Goal(loss=0.0025), 8), Point(Goal(loss=0.012), 6)],
    "memory": [Point(Goal(loss=loss, accounting="with_memory"), 10) for loss in (0.004, 0.01, 0.02)],
}


class _Statistics(Finished):
    """Those of one network, gathered once, whatever the goal.

    Args:
        case: the model and its data.
        short: whether stages are few.
        work: folder that they are kept in, or None.
    """

    def __init__(self, case: Case, short: bool, work: Path | None) -> None:
        super().__init__()
        name = digest_of([case.digest, LINES]) if short else case.digest
        self.kept = None if work is None else work / f"{name[:16]}.safetensors"
        self.known = Statistics.load(self.kept) if self.kept is not None and self.kept.exists() else None

    def statistics(self, gather: Callable[[], Statistics]) -> Statistics:
        if self.known is None:
            self.known = gather()
            if self.kept is not None:
                self.known.save(self.kept)
        return self.known


def row_of(case: Case, point: Point, statistics: _Statistics) -> Row:
    """What came of a goal, measured on the test data."""
    snn = copy.deepcopy(case.ann)
    start = time.perf_counter()
    try:
        found = las_sj.optimize(
            snn, point.config, case.calibration, case.check, **asdict(point.goal), finished=statistics
        )
    except las_sj.OptimisationError as error:
        return {"failed": str(error)}
    seconds = time.perf_counter() - start
    las_sj.set_execution(snn, "accumulated")
    measured = measure(snn, case.evaluation, "evaluating")
    row: Row = {"time_steps": found.time_steps, "checked": found.checked.to_dict(), "measured": measured.to_dict()}
    row |= {"levels": sorted({choice.code.levels for choice in found.plan.choices.values()}), "seconds": seconds}
    if case.classifier is not None:
        row |= {"ann": metric_of(case, case.ann), "snn": metric_of(case, snn)}
    if point.goal.accounting == "with_memory":
        row |= against_equal_loss(snn, case.evaluation)
    return row


@torch.no_grad()
def against_equal_loss(snn: PreTrainedModel, batches: Batches) -> Row:
    """Energy with memory and int8 weights over that of the ANN whose activations have as few bits as lose no more."""
    with SpikeMonitor(snn) as monitor:
        for batch in batches[:COUNTED]:
            snn(**batch)
    bits = fewest_bits(snn, batches[:1])
    ratio = None if bits is None else energy_report(monitor, "int8", bits).ratio(EQUAL_LOSS)
    return {"equal_loss_bits": bits, "equal_loss": ratio}


def crossing(rows: list[tuple[Point, Row]]) -> str:
    """From which of the losses on the SNN takes less than the ANN quantised to equal loss, in words."""
    below = [point for point, row in rows if (row.get("equal_loss") or 1.0) < 1.0]
    if not below:
        return "With memory and int8 weights the ANN quantised to equal loss takes less at each of these losses."
    least = 100 * (min(point.goal.loss or 0.0 for point in below))
    return f"With memory and int8 weights the SNN takes less than the ANN quantised to equal loss from {least:g} % on."


def sizes(case: Case, also_short: bool) -> str:
    """Stages and tables of the networks, which do not depend on their codes, in words."""
    others = f"; those called short, {size_of(case, short=True)}" if also_short else ""
    return f"The networks have {size_of(case, short=False)}{others}."


def size_of(case: Case, short: bool) -> str:
    """Stages of a call, and the lines of the largest table, in words."""
    config = Point(Goal(loss=1), 16, short).config
    snn = las_sj.convert(copy.deepcopy(case.ann), config, case.calibration[:1])
    stages = audit(snn, {"input_ids": case.evaluation[0]["input_ids"][:1, :AUDITED]}).stages
    lines = max(node.stored_lines for node in snn.modules() if isinstance(node, HGNode | CodingHGNode))
    return f"{stages} stages, and tables of up to {lines:,} lines"


def cells_of(case: Case, point: Point, row: Row) -> Iterator[str]:
    """A row of the table."""
    goal = point.goal
    added = ", binary" * goal.binary + ", short" * point.short
    asked = f"energy {goal.energy:g}" if goal.loss is None else f"loss {100 * goal.loss:g} %"
    yield f"{goal.accounting.replace('_', '-')}{added}, {asked}, T ≤ {point.time_steps}"
    if "failed" in row:
        yield row["failed"]
        return
    checked, found = Measurement.from_dict(row["checked"]), Measurement.from_dict(row["measured"])
    yield str(row["time_steps"])
    yield ", ".join(map(str, row["levels"]))
    yield from (f"{100 * each.loss:.3f} ± {100 * each.loss_interval:.3f} %" for each in (checked, found))
    if case.classifier is None:
        yield f"{found.perplexity_change:+.2f} ± {found.perplexity_interval:.2f} %"
    else:
        yield f"{row['ann']:.1f} → {row['snn']:.1f}"
    yield f"{found.spikes_per_neuron:.2f}"
    yield from (f"{found.ratios[name]:.3f}" for name in ("paper", "level_aware", "with_memory"))
    yield f"{row['equal_loss']:.3f} ({row['equal_loss_bits']} bits)" if row.get("equal_loss") else ""
    yield f"{row['seconds'] / 60:.1f}" if "seconds" in row else ""


def series_of(rows: list[tuple[Point, Row]]) -> dict[str, list[tuple[float, float, float]]]:
    """For each accounting that was optimised for, its energies and losses on the test data, in per cent."""
    series: dict[str, list[tuple[float, float, float]]] = {}
    for point, row in rows:
        if "failed" not in row:
            found, name = Measurement.from_dict(row["measured"]), point.goal.accounting
            entry = (found.ratios[name], 100 * found.loss, 100 * found.loss_interval)
            series.setdefault(f"{name.replace('_', '-')} accounting{', binary' * point.goal.binary}", []).append(entry)
    return series


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--only", choices=POINTS, nargs="+", default=[*POINTS])
    parser.add_argument("--picture", type=Path, help="PNG to draw loss against energy to")
    arguments = parser.parse_args()
    for case in cases(arguments):
        print_origin(case.name)
        print_header([*COLUMNS[:5], case.change, *COLUMNS[5:]])
        statistics = {short: _Statistics(case, short, arguments.work) for short in (False, True)}
        rows: list[tuple[Point, Row]] = []
        for point in (point for name in arguments.only for point in POINTS[name]):
            make = partial(row_of, case, point, statistics[point.short])
            row = kept_row(arguments.work, [case.digest, *point.key], make)
            print_row([*cells_of(case, point, row)])
            rows.append((point, row))
        print(f"\n{sizes(case, any(point.short for point, _ in rows))}")
        if any("equal_loss" in row for _, row in rows):
            print(f"\n{crossing(rows)}")
        if arguments.picture is not None:
            plot_pareto(series_of(rows), case.name).savefig(arguments.picture, dpi=130)


if __name__ == "__main__":
    main()
