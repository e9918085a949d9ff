"""GLUE: a classifier's own task, with the task's own metrics."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from las_sj.data.text import longest_sequence
from las_sj.evaluation.counted import costs_of
from las_sj.evaluation.errors import GlueError
from las_sj.evaluation.glue import GlueTask, encode, file_of, predictions_of, read_glue, scores
from las_sj.evaluation.journal import Journal, Record
from las_sj.evaluation.paired import Pair
from las_sj.evaluation.result import TaskResult, measure

if TYPE_CHECKING:
    from datasets import Dataset

LONGEST = 128  # tokens
CALIBRATION_ROWS = 256
UNSEEN_ROWS = 512

Batches = list[dict[str, Tensor]]


def calibration_batches(
    task: GlueTask, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path | None, batch_size: int
) -> Batches:
    """The first rows of the training split."""
    return _first(read_glue(task, "train", folder), CALIBRATION_ROWS, task, model, tokenizer, batch_size)


def unseen_batches(
    task: GlueTask, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path | None, batch_size: int
) -> tuple[Batches, str]:
    """Rows to learn a loss from, which needs no labels, and what they are called.

    A model is surer of what it was trained on. So these are rows of the test split, and training rows only where a
    folder has no test split.
    """
    has_test = folder is None or file_of(task, "test", folder)[1].exists()
    rows = read_glue(task, "test" if has_test else "train", folder)
    called = f"{'unlabelled test' if has_test else 'training'} rows of {task.name}"
    return _first(rows, UNSEEN_ROWS, task, model, tokenizer, batch_size), called


def _first(
    rows: "Dataset",
    count: int,
    task: GlueTask,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
) -> Batches:
    """Batches of the first rows, in their order."""
    rows = rows.select(range(min(count, len(rows))))
    return padded(encode(task, rows, tokenizer, longest(model, tokenizer)), tokenizer, range(len(rows)), batch_size)


def longest(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens that a text is cut at."""
    return min(LONGEST, tokenizer.model_max_length, longest_sequence(model.config) or LONGEST)


def padded(rows: "Dataset", tokenizer: PreTrainedTokenizerBase, order: Sequence[int], batch_size: int) -> Batches:
    """Batches of encoded rows in that order, padded to the longest of each."""
    columns = {name: list(rows[name]) for name in rows.column_names if name != "label"}
    parts = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [
        dict(tokenizer.pad({name: [column[i] for i in part] for name, column in columns.items()}, return_tensors="pt"))
        for part in parts
    ]


def read_rows(task: GlueTask, folder: Path | None, limit: int | None) -> "Dataset":
    """Rows of the development split, the first `limit` of them."""
    rows = read_glue(task, "dev", folder)
    return rows.select(range(min(limit or len(rows), len(rows))))


def by_length(
    task: GlueTask, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: "Dataset", batch_size: int
) -> tuple[Batches, list[int]]:
    """Batches of rows of a length, so that there is little padding, and the numbers of their rows."""
    encoded = encode(task, rows, tokenizer, longest(model, tokenizer))
    order = sorted(range(len(rows)), key=lambda index: len(encoded["input_ids"][index]))
    return padded(encoded, tokenizer, order, batch_size), order


def evaluate_glue(
    task: GlueTask, pair: Pair, journal: Journal, rows: "Dataset", batch_size: int, seed: int
) -> TaskResult:
    """Score both models on the development split.

    Args:
        task: one of `glue.TASKS`.
        pair: classifiers of this task.
        journal: keeps finished batches.
        rows: as `read_rows` returns.
        batch_size: rows.
        seed: of the bootstrap.

    Raises:
        GlueError: the model is no classifier of this task.
    """
    columns = columns_of(pair.ann, task)
    batches, order = by_length(task, pair.ann, pair.tokenizer, rows, batch_size)

    def compute(index: int) -> Record:
        ann, snn, seconds = pair.run(batches[index])
        return {"ann": ann.logits.double().tolist(), "snn": snn.logits.double().tolist(), **seconds}

    records = journal.collect(task.name, batches, compute)
    labels = np.asarray(rows["label"], dtype=float)[order]
    ann, snn = (_predicted(task, records, side, columns) for side in ("ann", "snn"))
    sides = [np.stack([values, labels], 1) for values in (ann, snn)]
    costs = costs_of(pair, batches, journal, task.name, records)
    return TaskResult(
        task=task.name,
        description=_description(pair, task, rows),
        rows=len(rows),
        unit="rows",
        measures=[measure(name, _scored(task, name), sides, seed) for name in task.metrics],
        agreement=float((ann == snn).mean()) if task.labels else None,
        **costs,
    )


def _predicted(task: GlueTask, records: Sequence[Record], side: str, columns: Sequence[int]) -> np.ndarray:
    """Classes or values, [rows].

    Args:
        task: one of `glue.TASKS`.
        records: logits of both models, batch by batch.
        side: "ann" or "snn".
        columns: as `columns_of` returns.
    """
    logits = np.concatenate([np.asarray(record[side]) for record in records])
    return predictions_of(task, logits[:, columns])


def _scored(task: GlueTask, metric: str) -> Callable[[np.ndarray], float]:
    """A metric of rows [N, 2] of predictions and labels."""
    return lambda rows: scores(task, rows[:, 0], rows[:, 1])[metric]


def columns_of(model: PreTrainedModel, task: GlueTask) -> list[int]:
    """Which of the model's outputs is which class of the task: by their names, where it knows the task's.

    Raises:
        GlueError: the model is no classifier of this task.
    """
    found, needed = getattr(model.config, "num_labels", 0), len(task.labels) or 1
    if "SequenceClassification" not in type(model).__name__ or found != needed:
        raise GlueError(
            f"{type(model).__name__} is no classifier of {task.name}, which has {needed} output"
            f"{'s' if needed > 1 else ''}: make one, las-sj finetune MODEL --task {task.name} --output DIR"
        )
    numbers = _numbers(model)
    return [numbers[name] for name in task.labels] if _names_known(model, task) else list(range(needed))


def _numbers(model: PreTrainedModel) -> dict[str, int]:
    """Which output has which name."""
    return {str(name).lower(): int(index) for name, index in (model.config.label2id or {}).items()}


def _names_known(model: PreTrainedModel, task: GlueTask) -> bool:
    return bool(task.labels) and set(task.labels) <= set(_numbers(model))


def _description(pair: Pair, task: GlueTask, rows: "Dataset") -> str:
    """What was scored; also where the model has names of its own for the classes, as one of another task has."""
    text = f"{rows.info.description}, texts cut at {longest(pair.ann, pair.tokenizer)} tokens"
    names = sorted(numbers := _numbers(pair.ann), key=lambda name: numbers[name])
    if not task.labels or _names_known(pair.ann, task) or all(name.startswith("label_") for name in names):
        return text
    return f"{text}; the model's {', '.join(names)} taken for {', '.join(task.labels)}"
