"""Tasks of GLUE: rows of tokens, and the metrics of a model on the development split."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import DataCollatorWithPadding, PreTrainedModel, PreTrainedTokenizerBase

from las_sj.checkpoint.placement import input_device
from las_sj.data.batches import to_device
from las_sj.data.text import check_ids
from las_sj.evaluation.glue import GlueTask, encode, predictions_of, scores
from las_sj.training.material import Material, without_labels
from las_sj.training.rows import Row

if TYPE_CHECKING:
    from datasets import Dataset

SHOWN = 8  # rows of the development split to look at a network with


def head_options(task: GlueTask) -> dict[str, Any]:
    """What a model is loaded with to have a head for a task."""
    if not task.labels:
        return {"num_labels": 1, "problem_type": "regression"}
    names = dict(enumerate(task.labels))
    return {"id2label": names, "label2id": {label: index for index, label in names.items()}}


def glue_material(
    task: GlueTask,
    tokenizer: PreTrainedTokenizerBase,
    splits: tuple["Dataset", "Dataset"],
    *,
    max_length: int,
    known: int,
    batch_size: int,
    facts: dict[str, Any],
) -> Material:
    """A task of GLUE.

    Args:
        task: the task.
        tokenizer: of the model.
        splits: rows to train on, and of the development split, as `read_glue` returns them.
        max_length: tokens; longer texts are cut.
        known: tokens that the model has embeddings of.
        batch_size: rows of a call that is measured.
        facts: what the report says.

    Raises:
        TextError: the tokenizer is not that of the model.
    """
    train, dev = (list(encode(task, rows, tokenizer, max_length)) for rows in splits)
    for row in (*train, *dev):
        check_ids(torch.tensor(row["input_ids"]), known)
    collate: Any = DataCollatorWithPadding(tokenizer)
    counts = {"task": task.name, "rows": {"train": len(train), "dev": len(dev)}, "max_length": max_length}
    return Material(
        train,
        collate,
        _Metrics(task, dev, collate, batch_size),
        facts=facts | counts,
        grouped=True,
        held_out=[without_labels(dict(collate(dev[:SHOWN])))],
    )


class _Metrics:
    """The metrics of a model on the development split.

    Args:
        task: the task.
        rows: of the split.
        collate: makes batches.
        batch_size: rows of a call.
    """

    def __init__(self, task: GlueTask, rows: Sequence[Row], collate: Any, batch_size: int) -> None:
        self.task = task
        self.rows = sorted(rows, key=lambda row: len(row["input_ids"]))  # little padding
        self.collate = collate
        self.batch_size = batch_size

    def __call__(self, model: PreTrainedModel) -> dict[str, float]:
        logits = []
        for start in tqdm(range(0, len(self.rows), self.batch_size), desc="measuring", unit="batch", leave=False):
            batch = to_device(self.collate(self.rows[start : start + self.batch_size]), input_device(model))
            logits.append(model(**without_labels(batch)).logits.float().cpu().numpy())
        predictions = predictions_of(self.task, np.concatenate(logits))
        return scores(self.task, predictions, [row["label"] for row in self.rows])
