"""Tasks of lm-eval, zero-shot or as they say, with both models.

With a folder of data, tasks that have a YAML file in `local_files` read their rows from it; all others come from the
hub. lm-eval itself makes prompts, scores and metrics. Needs the extra `evaluate`.
"""

import logging
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import PreTrainedModel

from las_sj.data.text import is_language_model
from las_sj.evaluation.counted import costs_of
from las_sj.evaluation.errors import ZeroShotError
from las_sj.evaluation.journal import Journal
from las_sj.evaluation.paired import Pair
from las_sj.evaluation.result import Measure, TaskResult, measure
from las_sj.extras import require_extra
from las_sj.usage import UsageError

if TYPE_CHECKING:
    from lm_eval.api.task import Task

    from las_sj.evaluation.paired_lm import PairedLM

LOCAL_FILES = Path(__file__).parent / "local_files"
SIDES = ("ann", "snn")
Sample = dict[str, Any]


def load_tasks(name: str, folder: Path | None) -> list["Task"]:
    """The tasks of a name, of a group, or of a tag of lm-eval.

    Args:
        name: as lm-eval knows it.
        folder: of data, or None for the hub.

    Raises:
        UsageError: there is none of that name.
        ZeroShotError: its data cannot be read.
        MissingExtraError: lm-eval is not installed.
    """
    require_extra("evaluate", "lm_eval")
    with _quiet():
        has_files = folder is not None and (LOCAL_FILES / f"{name}.yaml").exists()
        manager = _manager(folder if has_files else None)
        if name not in manager.all_tasks:
            raise UsageError(f"--task {name}: there is no such task, neither here nor in lm-eval")
        try:
            return list(manager.load([name])["tasks"].values())
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            known = ", ".join(sorted(path.stem for path in LOCAL_FILES.glob("*.yaml")))
            source = folder if has_files else f"from the hub (--data-dir has files for {known})"
            raise ZeroShotError(f"cannot read the data of {name} {source}: {reason}") from None


@cache
def _manager(folder: Path | None) -> Any:
    """lm-eval's index of its own tasks, which takes seconds to make, or of those that read files of a folder."""
    from lm_eval.tasks import TaskManager

    if folder is None:
        return TaskManager()
    return TaskManager(include_path=str(LOCAL_FILES), include_defaults=False, metadata={"data_dir": str(folder)})


def check_model(model: PreTrainedModel, task: "Task") -> None:
    """Make sure that a model can be given the questions of a task.

    Raises:
        ZeroShotError: the model predicts no tokens.
    """
    if not is_language_model(model):
        raise ZeroShotError(f"{type(model).__name__} does not predict the next token, as {task.config.task} needs")


def evaluate_zero_shot(
    task: "Task", pair: Pair, journal: Journal, batch_size: int, limit: int | None, seed: int
) -> TaskResult | None:
    """Score the ANN and the SNN on a task of lm-eval.

    All processes take part and run all calls; the first alone scores, and the others return None, as lm-eval does.

    Args:
        task: one of `load_tasks`.
        pair: language models.
        journal: keeps finished batches.
        batch_size: requests.
        limit: questions, the first ones; None for all.
        seed: of the bootstrap.

    Raises:
        ZeroShotError: the model predicts no tokens, or fewer than an answer has.
    """
    name = task.config.task
    check_model(pair.ann, task)
    with _quiet(), _seeds_kept(), _no_commit():
        from las_sj.evaluation.paired_lm import PairedLM

        model = PairedLM(pair, journal, name, batch_size)
        answered = _answered(model, task, limit)
    costs = costs_of(pair, model.batches, journal, name, model.records)
    if answered is None:
        return None
    samples = {side: _by_filter(found) for side, found in answered.items()}
    first = next(iter(samples["ann"]))
    return TaskResult(
        task=name,
        description=_description(task),
        rows=len(samples["ann"][first]),
        unit="questions",
        measures=list(_measures(task, samples, seed)),
        agreement=_agreement(task, [samples[side][first] for side in SIDES]),
        **costs,
    )


def _answered(model: "PairedLM", task: "Task", limit: int | None) -> dict[str, list[Sample]] | None:
    """What lm-eval made of the questions with the answers of each model; None in all processes but the first."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    no_index = TaskManager(include_defaults=False)  # or else all of lm-eval's tasks are indexed again
    answered: dict[str, Any] = {}
    for side in SIDES:
        model.answer_as(side)
        answered[side] = simple_evaluate(
            model, tasks=[task], limit=limit, bootstrap_iters=0, log_samples=True, task_manager=no_index
        )
    if answered["ann"] is None:
        return None
    return {side: found["samples"][task.config.task] for side, found in answered.items()}


def _description(task: "Task") -> str:
    text = f"lm-eval, version {task.VERSION}, {task.config.num_fewshot or 0}-shot"
    if task.OUTPUT_TYPE == "loglikelihood":
        text += "; same predictions: whether the wanted words are the greedy ones"
    return text


def _by_filter(samples: list[Sample]) -> dict[str, list[Sample]]:
    """lm-eval scores each question once for each of a task's filters, which cut the answer out of what was said."""
    found: dict[str, list[Sample]] = {}
    for sample in sorted(samples, key=lambda sample: sample["doc_id"]):
        found.setdefault(sample["filter"], []).append(sample)
    return found


def _measures(task: "Task", samples: dict[str, dict[str, list[Sample]]], seed: int) -> Iterator[Measure]:
    """Metrics of lm-eval, with its own aggregations."""
    filters = list(samples["ann"])
    for kind in filters:
        for name, aggregate in task.aggregation().items():
            rows = [_column([sample[name] for sample in samples[side][kind] if name in sample]) for side in SIDES]
            if len(rows[0]):
                yield measure(name if len(filters) == 1 else f"{name} ({kind})", _aggregated(aggregate), rows, seed)


def _column(values: Sequence[Any]) -> np.ndarray:
    """Values of any kind, tuples and lists too, which numpy would make columns of."""
    column = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        column[index] = value
    return column


def _aggregated(aggregate: Callable[[list[Any]], float]) -> Callable[[np.ndarray], float]:
    return lambda rows: float(aggregate(rows.tolist()))


def _agreement(task: "Task", sides: Sequence[list[Sample]]) -> float | None:
    """Share of questions with the same prediction; None where the text is given and nothing is predicted."""
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        return None
    return float(np.mean([_prediction(task, a) == _prediction(task, s) for a, s in zip(*sides, strict=True)]))


def _prediction(task: Any, sample: Sample) -> Any:
    """What a model chose, whether it would have said what was asked for, or what it said."""
    answers = sample["filtered_resps"]
    if task.OUTPUT_TYPE == "multiple_choice":
        choices = len(task.doc_to_choice(sample["doc"]))  # some metrics ask for each once more, without the question
        return int(np.argmax([likelihood for likelihood, _ in answers[:choices]]))
    return answers[0][1] if task.OUTPUT_TYPE == "loglikelihood" else answers[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """lm-eval tells its developers much that a user of ours need not know, and maps a few rows again and again."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    logger = logging.getLogger("lm_eval")
    level, shown = logger.level, not are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if shown:
            enable_progress_bars()


@contextmanager
def _no_commit() -> Iterator[None]:
    """lm-eval asks git for the commit of the folder that a user happens to be in; git complains if there is none."""
    from lm_eval import evaluator

    ask = evaluator.get_git_commit_hash
    evaluator.get_git_commit_hash = lambda: None
    try:
        yield
    finally:
        evaluator.get_git_commit_hash = ask


@contextmanager
def _seeds_kept() -> Iterator[None]:
    """lm-eval sets all seeds."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
