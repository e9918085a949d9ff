"""Loss against energy of optimised networks: what `las_sj.optimize` makes of a loss that is allowed.

    PYTHONPATH=benchmarks python benchmarks/tables/pareto.py [CLASSIFIER …] [--only frontier] [--work DIR]

Without classifiers (folders of `python -m las_sj.finetune`) it is SmolLM2-135M on WikiText-2: calibrated on 2,048
tokens of the validation text, checked on as many others of it, and measured on the first 16,384 tokens of the raw test
text, in windows of 512. Classifiers are calibrated and checked on training rows, and measured on the development split.
Prints a Markdown table. With --work, finished rows are kept: the same command goes on after an interruption.
"""

import argparse
import copy
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from real_models import DATA, smollm2
from support import GLUE, Classifier, print_origin
from timing import print_header, print_row
from transformers import PreTrainedModel

import las_sj
from las_sj.analysis import plot_pareto
from las_sj.data.unfinished import write_whole
from las_sj.evaluation.classification import by_length, calibration_batches, columns_of, read_rows
from las_sj.evaluation.digest import digest_of
from las_sj.evaluation.glue import predictions_of, score
from las_sj.optimisation.goal import Goal
from las_sj.optimisation.measurement import Measurement, measure
from las_sj.optimisation.statistics import Statistics
from las_sj.optimisation.unfinished import Finished

WINDOW = 512
Batches = list[dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Point:
    """A row: a goal, and the most time steps."""

    goal: Goal
    time_steps: int


POINTS = {
    "frontier": [Point(Goal(loss=loss), 16) for loss in (0.0015, 0.004, 0.008)],
    "paper": [Point(Goal(loss=loss, accounting="paper"), 12) for loss in (0.0015, 0.004)],
    "steps": [Point(Goal(loss=0.0025), 8), Point(Goal(loss=0.015), 6)],
    "memory": [Point(Goal(loss=0.004, accounting="with_memory"), 12)],
}


@dataclass
class Case:
    """A model with its data.

    Attributes:
        name: of both.
        ann: the model.
        calibration, check, evaluation: batches.
        classifier: its task, or None of a language model.
        statistics: once they are gathered.
    """

    name: str
    ann: PreTrainedModel
    calibration: Batches
    check: Batches
    evaluation: Batches
    classifier: Classifier | None = None
    statistics: Statistics | None = None

    @property
    def digest(self) -> str:
        return digest_of([self.ann.state_dict(), self.calibration, self.check, self.evaluation])


class _Shared(Finished):
    """Statistics are those of the model, whatever the goal."""

    def __init__(self, case: Case, kept: Path | None) -> None:
        super().__init__()
        self.case, self.kept = case, kept

    def statistics(self, gather: Any) -> Statistics:
        if self.case.statistics is None and self.kept is not None and self.kept.exists():
            self.case.statistics = Statistics.load(self.kept)
        if self.case.statistics is None:
            self.case.statistics = gather()
            if self.kept is not None:
                self.case.statistics.save(self.kept)
        return self.case.statistics


def language_model(data: Path, tokens: int) -> Case:
    """SmolLM2 on WikiText-2."""
    model, tokenizer = smollm2()

    def windows(file: str, count: int) -> Batches:
        text = (data / file).read_text(encoding="utf-8")[: 8 * count]
        ids = tokenizer(text, return_tensors="pt").input_ids[0, :count]
        return [{"input_ids": part[None]} for part in ids.split(WINDOW)]

    both = windows("wikitext-2/valid.txt", 4096)
    evaluation = windows("wikitext-2-raw/wiki.test.raw", tokens)
    return Case(f"SmolLM2-135M, {tokens:,} tokens", model, both[:4], both[4:], evaluation)


def classifier(folder: Path, data: Path, limit: int | None) -> Case:
    """A classifier on the task that it was trained for."""
    found = Classifier.load(folder, data, limit)
    both = calibration_batches(found.task, found.ann, found.tokenizer, data, 24)
    rows = read_rows(found.task, found.data, found.limit)
    evaluation, _ = by_length(found.task, found.ann, found.tokenizer, rows, 32)
    return Case(f"{found.task.name}, {len(rows)} rows", found.ann, both[::2], both[1::2], evaluation, found)


@torch.no_grad()
def metric_of(case: Case, model: PreTrainedModel) -> float:
    """The metric of a classifier, in points."""
    assert case.classifier is not None
    task = case.classifier.task
    rows = read_rows(task, case.classifier.data, case.classifier.limit)
    _, order = by_length(task, case.ann, case.classifier.tokenizer, rows, 32)
    logits = torch.cat([model(**batch).logits for batch in case.evaluation])
    labels = [rows["label"][index] for index in order]
    return 100 * score(task, predictions_of(task, logits.numpy()[:, columns_of(case.ann, task)]), labels)


def row_of(case: Case, point: Point, work: Path | None) -> dict[str, Any]:
    """What came of a goal, from `work` if it is known."""
    kept = (
        None if work is None else work / f"{digest_of([case.digest, asdict(point.goal), point.time_steps])[:16]}.json"
    )
    if kept is not None and kept.exists():
        row: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return row
    statistics = None if work is None else work / f"{case.digest[:16]}.safetensors"
    snn, goal = copy.deepcopy(case.ann), point.goal
    config = las_sj.LASConfig(time_steps=point.time_steps)
    shared = _Shared(case, statistics)
    try:
        found = las_sj.optimize(snn, config, case.calibration, case.check, **asdict(goal), finished=shared)
    except las_sj.OptimisationError as error:
        row = {"failed": str(error)}
    else:
        las_sj.set_execution(snn, "accumulated")
        measured = measure(snn, case.evaluation, "evaluating")
        row = {"time_steps": found.time_steps, "checked": found.checked.to_dict(), "measured": measured.to_dict()}
        row["levels"] = sorted({choice.code.levels for choice in found.plan.choices.values()})
        if case.classifier is not None:
            row |= {"ann": metric_of(case, case.ann), "snn": metric_of(case, snn)}
    if kept is not None:
        write_whole(kept, row)
    return row


def cells_of(case: Case, point: Point, row: dict[str, Any]) -> Iterator[str]:
    """A row of the table."""
    goal = point.goal
    yield f"{goal.accounting.replace('_', '-')}, loss {100 * (goal.loss or 0):g} %, T ≤ {point.time_steps}"
    if "failed" in row:
        yield row["failed"]
        return
    checked, found = Measurement.from_dict(row["checked"]), Measurement.from_dict(row["measured"])
    yield str(row["time_steps"])
    yield ", ".join(map(str, row["levels"]))
    yield f"{100 * checked.loss:.3f} %"
    yield f"{100 * found.loss:.3f} %"
    if case.classifier is None:
        yield f"{found.perplexity_change:+.2f} ± {found.perplexity_interval:.2f} %"
    else:
        yield f"{row['ann']:.1f} → {row['snn']:.1f}"
    yield f"{found.spikes_per_neuron:.2f}"
    yield from (f"{found.ratios[name]:.3f}" for name in ("paper", "level_aware", "with_memory"))


def series_of(rows: list[tuple[Point, dict[str, Any]]]) -> dict[str, list[tuple[float, float, float]]]:
    """For each accounting that was optimised for, its energies and losses on the test data, in per cent."""
    series: dict[str, list[tuple[float, float, float]]] = {}
    for point, row in rows:
        if "failed" not in row:
            found, name = Measurement.from_dict(row["measured"]), point.goal.accounting
            entry = (found.ratios[name], 100 * found.loss, 100 * found.loss_interval)
            series.setdefault(f"{name.replace('_', '-')} accounting, T ≤ {point.time_steps}", []).append(entry)
    return series


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classifiers", nargs="*", type=Path, help="folders that las_sj.finetune wrote")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--tokens", type=int, default=16384, help="of the test text")
    parser.add_argument("--limit", type=int, help="rows of the development split (all)")
    parser.add_argument("--only", choices=POINTS, nargs="+", default=[*POINTS])
    parser.add_argument("--work", type=Path, help="folder for finished rows")
    parser.add_argument("--picture", type=Path, help="PNG to draw loss against energy to")
    arguments = parser.parse_args()
    if arguments.work is not None:
        arguments.work.mkdir(parents=True, exist_ok=True)
    glue = GLUE if arguments.data == DATA else arguments.data / "glue"
    makers = [lambda folder=folder: classifier(folder, glue, arguments.limit) for folder in arguments.classifiers]
    for make in makers or [lambda: language_model(arguments.data, arguments.tokens)]:
        case = make()
        print_origin(case.name)
        change = "perplexity" if case.classifier is None else "score, ANN → SNN"
        columns = ["goal", "T", "levels", "loss, check", "loss, test", change, "spikes per neuron"]
        print_header([*columns, "paper", "level-aware", "with memory"])
        rows: list[tuple[Point, dict[str, Any]]] = []
        for name in arguments.only:
            for point in POINTS[name]:
                row = row_of(case, point, arguments.work)
                print_row([*cells_of(case, point, row)])
                rows.append((point, row))
        if arguments.picture is not None:
            plot_pareto(series_of(rows), case.name).savefig(arguments.picture, dpi=130)


if __name__ == "__main__":
    main()
