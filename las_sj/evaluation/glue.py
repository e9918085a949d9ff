"""The tasks of GLUE: their rows, from the hub or from files, and their metrics.

    task = TASKS["SST-2"]
    rows = read_glue(task, "dev")                       # text_a, text_b, label
    encoded = encode(task, rows, tokenizer, 128)        # input_ids, ..., label
    scores(task, predictions_of(task, logits), rows["label"])       # by metric, the first is the one to report

Needs the extra `glue`.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from las_sj.data.text import TextError, read_text
from las_sj.evaluation.errors import GlueError
from las_sj.extras import require_extra

if TYPE_CHECKING:
    from datasets import Dataset

HUB_NAME = "nyu-mll/glue"
SPLITS = {"train": "training split", "dev": "development split", "test": "test split"}
UNKNOWN = -1.0  # label of a test row, as on the hub


@dataclass(frozen=True)
class GlueTask:
    """One task.

    Attributes:
        name: as in the paper of GLUE; also the folder of its files.
        hub_name: its configuration on the hub.
        texts: names of its one or two columns of text.
        labels: names of its classes, in the order of their numbers; empty for a regression.
        metrics: the task's official ones; the first stands for the task where one must.
        file_texts: as `texts`, where the files name them otherwise.
        file_label: the files' column of labels.
        header: names of the files' columns, where they have no header line.
        dev_file, hub_dev: the development split among the files and on the hub; the test split has "test" for it.
        other_dev: a headerless file, cut from the training split, to take where there is no `dev_file`.
    """

    name: str
    hub_name: str
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...] = ("accuracy",)
    file_texts: tuple[str, ...] = ()
    file_label: str = "label"
    header: tuple[str, ...] = ()
    dev_file: str = "dev.tsv"
    hub_dev: str = "validation"
    other_dev: str = ""

    @property
    def metric(self) -> str:
        """The one that stands for the task."""
        return self.metrics[0]

    def file_of(self, split: str) -> str:
        """File name of a split."""
        return f"{split}.tsv" if split == "train" else self.dev_file.replace("dev", split)

    def hub_split(self, split: str) -> str:
        """Name of a split on the hub."""
        return {"dev": self.hub_dev, "test": self.hub_dev.replace("validation", "test")}.get(split, split)


_PAIR = ("sentence1", "sentence2")
_ENTAILMENT = ("entailment", "not_entailment")

TASKS = {
    task.name: task
    for task in (
        GlueTask("SST-2", "sst2", ("sentence",), ("negative", "positive")),
        GlueTask(
            "CoLA",
            "cola",
            ("sentence",),
            ("unacceptable", "acceptable"),
            metrics=("Matthews correlation",),
            header=("source", "label", "mark", "sentence"),
        ),
        GlueTask(
            "MRPC",
            "mrpc",
            _PAIR,
            ("not_equivalent", "equivalent"),
            metrics=("accuracy", "F1"),
            file_texts=("#1 String", "#2 String"),
            file_label="Quality",
        ),
        GlueTask(
            "STS-B",
            "stsb",
            _PAIR,
            (),
            metrics=("Spearman correlation", "Pearson correlation"),
            file_label="score",
        ),
        GlueTask(
            "QQP",
            "qqp",
            ("question1", "question2"),
            ("not_duplicate", "duplicate"),
            metrics=("accuracy", "F1"),
            file_label="is_duplicate",
            other_dev="train_slice.tsv",
        ),
        GlueTask("RTE", "rte", _PAIR, _ENTAILMENT),
        GlueTask("WNLI", "wnli", _PAIR, _ENTAILMENT[::-1]),
        GlueTask("QNLI", "qnli", ("question", "sentence"), _ENTAILMENT),
        GlueTask(
            "MNLI",
            "mnli",
            ("premise", "hypothesis"),
            ("entailment", "neutral", "contradiction"),
            dev_file="dev_matched.jsonl",
            hub_dev="validation_matched",
        ),
        GlueTask(
            "MNLI-mm",
            "mnli",
            ("premise", "hypothesis"),
            ("entailment", "neutral", "contradiction"),
            dev_file="dev_mismatched.jsonl",
            hub_dev="validation_mismatched",
        ),
    )
}
_QQP_COLUMNS = ("id", "qid1", "qid2", "question1", "question2", "is_duplicate")


def read_glue(task: GlueTask, split: str, folder: Path | None = None) -> "Dataset":
    """The rows of a split, in their order.

    Args:
        task: one of `TASKS`.
        split: "train", "dev" (of MNLI, the matched one), or "test", whose labels are -1: nobody publishes them.
        folder: holds a folder per task (SST-2/train.tsv, ...); None reads from the hub.

    Returns:
        A dataset with columns text_a, text_b (None in tasks of one text), and label: the number of the class, or the
        value to predict in a regression; its `info.description` says what they are.

    Raises:
        GlueError: it cannot be read, or a row is malformed.
        MissingExtraError: `datasets` is not installed.
    """
    if split not in SPLITS:
        raise GlueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    require_extra("glue", "datasets")
    from datasets import Dataset, DatasetInfo

    description = SPLITS[split]
    if folder is None:
        texts, labels = _from_hub(task, split)
    else:
        columns, path, skipped = file_of(task, split, folder)
        if not path.exists():
            wanted = path.relative_to(folder)
            raise GlueError(f"cannot read text from {path}, which is not there: give a folder that holds {wanted}")
        texts, labels = _from_file(columns, path, skipped, labelled=split != "test")
        if split == "dev" and path.name == task.other_dev:
            description = f"{path.name}, rows of the {SPLITS['train']}"
    pairs = texts[1] if len(texts) == 2 else [None] * len(labels)
    rows = {"text_a": texts[0], "text_b": pairs, "label": labels}
    return Dataset.from_dict(rows, info=DatasetInfo(description=description))


def encode(task: GlueTask, rows: "Dataset", tokenizer: PreTrainedTokenizerBase, max_length: int) -> "Dataset":
    """Rows of `read_glue` as the tokenizer's columns (input_ids, attention_mask, ...) and label; cut, not padded."""
    second = list(rows["text_b"]) if len(task.texts) == 2 else None
    columns = tokenizer(list(rows["text_a"]), second, truncation=True, max_length=max_length)
    return type(rows).from_dict({**columns, "label": list(rows["label"])})


def predictions_of(task: GlueTask, logits: np.ndarray) -> np.ndarray:
    """Classes, or values in a regression, [N], from the logits [N, C] of a model ([N, 1] in a regression).

    Raises:
        GlueError: a logit is infinite or NaN.
    """
    if not np.isfinite(logits).all():
        raise GlueError(
            "the model's outputs are infinite or NaN: check its weights, or train with a smaller --learning-rate"
        )
    return logits.argmax(-1) if task.labels else logits.squeeze(-1)


def scores(
    task: GlueTask, predictions: Sequence[float] | np.ndarray, labels: Sequence[float] | np.ndarray
) -> dict[str, float]:
    """The task's official metrics.

    Args:
        task: one of `TASKS`.
        predictions: classes, or values in a regression, [N].
        labels: likewise, [N].

    Returns:
        A share or a correlation by name; a correlation is 0 where all predictions, or all labels, are the same.

    Raises:
        GlueError: none are given, or their numbers differ.
        MissingExtraError: scikit-learn or scipy is not installed.
    """
    predicted, expected = np.asarray(predictions), np.asarray(labels)
    if predicted.shape != expected.shape or predicted.ndim != 1 or not len(predicted):
        raise GlueError(f"predictions have shape {predicted.shape}, labels {expected.shape}: [N] each is needed")
    require_extra("glue", "sklearn", "scipy")
    return {metric: _score(metric, predicted, expected) for metric in task.metrics}


def score(task: GlueTask, predictions: Sequence[float] | np.ndarray, labels: Sequence[float] | np.ndarray) -> float:
    """The metric that stands for the task; arguments and errors are those of `scores`."""
    return scores(task, predictions, labels)[task.metric]


def _score(metric: str, predicted: np.ndarray, expected: np.ndarray) -> float:
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    if metric == "accuracy":
        return float(accuracy_score(expected, predicted))
    if metric == "F1":
        return float(f1_score(expected, predicted, zero_division=0.0))
    if np.ptp(predicted) == 0 or np.ptp(expected) == 0:
        return 0.0
    if metric == "Matthews correlation":
        return float(matthews_corrcoef(expected, predicted))
    correlation = pearsonr if metric == "Pearson correlation" else spearmanr
    return float(correlation(expected, predicted).statistic)


def _from_hub(task: GlueTask, split: str) -> tuple[list[list[str]], list[float]]:
    """Columns of text, and labels."""
    from datasets import load_dataset

    try:
        rows = load_dataset(HUB_NAME, task.hub_name, split=task.hub_split(split))
    except (OSError, ValueError) as error:
        raise GlueError(f"cannot read {task.name} from the hub, give a folder that holds it: {error}") from None
    return [list(rows[column]) for column in task.texts], list(rows["label"])


def file_of(task: GlueTask, split: str, folder: Path) -> tuple[GlueTask, Path, int]:
    """The file of a split, the task with the columns of that file, and how many lines come before its rows."""
    folder = folder / task.name.removesuffix("-mm")
    path = folder / task.file_of(split)
    if split == "dev" and task.other_dev and not path.exists() and (folder / task.other_dev).exists():
        return replace(task, header=_QQP_COLUMNS), folder / task.other_dev, 1  # the slice begins in the middle of a row
    return (replace(task, header=()) if split == "test" else task), path, 0  # CoLA's test file has a header


def _from_file(task: GlueTask, path: Path, skipped: int, labelled: bool) -> tuple[list[list[str]], list[float]]:
    """Columns of text, and labels."""
    names = task.file_texts or task.texts
    texts: list[list[str]] = [[] for _ in names]
    labels = []
    for place, row in _rows(path, task.header, skipped):
        for column, name in zip(texts, names, strict=True):
            column.append(_cell(row, name, place))
        labels.append(_label(task, _cell(row, task.file_label, place), place) if labelled else UNKNOWN)
    if not labels:
        raise GlueError(f"{path} has no rows: give a file with some")
    return texts, labels


def _rows(path: Path, header: tuple[str, ...], skipped: int) -> list[tuple[str, dict[str, Any]]]:
    """The rows of a file by column, each with its place; tabs separate always, since quotes are part of the texts."""
    try:
        text = read_text(path).removeprefix("\ufeff")  # some files begin with a byte-order mark
    except TextError as error:
        raise GlueError(str(error)) from None
    lines = [(f"{path}, line {number}", line) for number, line in enumerate(text.split("\n"), 1) if line][skipped:]
    if path.suffix == ".jsonl":
        return [(place, _json_row(line, place)) for place, line in lines]
    names = header or tuple(lines.pop(0)[1].split("\t"))
    return [(place, _tsv_row(line, names, place)) for place, line in lines]


def _tsv_row(line: str, names: tuple[str, ...], place: str) -> dict[str, Any]:
    cells = line.split("\t")
    if len(cells) != len(names):
        raise GlueError(f"{place}: {len(cells)} columns, expected {len(names)}: give a file of this task, with tabs")
    return dict(zip(names, cells, strict=True))


def _json_row(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise GlueError(f"{place}: {error}") from None
    if not isinstance(row, dict):
        raise GlueError(f"{place}: not a JSON object")
    return row


def _cell(row: dict[str, Any], name: str, place: str) -> str:
    cell = row.get(name)
    if not isinstance(cell, str):
        raise GlueError(f"{place}: no text in a column {name!r}: give a file of this task")
    return cell


def _label(task: GlueTask, word: str, place: str) -> float:
    """The number of a class, which files give by name or as a number; or the value to predict."""
    numbers = {name: index for index, name in enumerate(task.labels)}
    numbers |= {str(index): index for index in numbers.values()}
    if task.labels:
        if word not in numbers:
            raise GlueError(f"{place}: label {word!r} is none of {', '.join(numbers)}")
        return numbers[word]
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise GlueError(f"{place}: score {word!r} is not a number")
    return value
