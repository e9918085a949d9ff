"""Tasks of GLUE: rows of tokens, and the metrics of a model on the development split."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import DataCollatorWithPadding, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from las_sj.checkpoint.placement import input_device
from las_sj.data.batches import to_device
from las_sj.data.text import check_ids
from las_sj.evaluation.glue import GlueTask, encode, predictions_of, scores
from las_sj.training.errors import TrainingError
from las_sj.training.material import Material, without_labels
from las_sj.training.rows import Row

if TYPE_CHECKING:
    from datasets import Dataset

SHOWN = 8  # rows of the development split to look at a network with


def head_options(task: GlueTask, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What a model is loaded with to have a head for a task, and to know padding where it sees it.

    Args:
        task: the task.
        tokenizer: of the model.

    Raises:
        TrainingError: the tokenizer has no padding token, so that rows of different lengths make no batch.
    """
    if tokenizer.pad_token_id is None:
        raise TrainingError(
            f"the tokenizer of {tokenizer.name_or_path} has no padding token, which --task needs: set "
            "tokenizer.pad_token, to its eos_token for example, and save it there"
        )
    padding = {"pad_token_id": tokenizer.pad_token_id}
    if not task.labels:
        return padding | {"num_labels": 1, "problem_type": "regression"}
    names = dict(enumerate(task.labels))
    return padding | {"id2label": names, "label2id": {label: index for index, label in names.items()}}


def classes_of_another_task(config: PretrainedConfig, task: GlueTask) -> list[str]:
    """The names of the classes that a classifier tells apart, where they are not a task's; [] where they have none.

    Args:
        config: of the classifier.
        task: the task.
    """
    names = [str(name) for _, name in sorted((config.id2label or {}).items())]
    known = [name.lower() for name in names]
    unnamed = all(name.startswith("label_") for name in known)
    return [] if unnamed or known == [name.lower() for name in task.labels] else names


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
