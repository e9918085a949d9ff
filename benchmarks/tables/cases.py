"""Models with their data, for tables of what networks lose and cost: SmolLM2 on WikiText-2, and classifiers of GLUE."""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from real_models import DATA, smollm2
from support import GLUE, Classifier
from transformers import PreTrainedModel

from las_sj.data.unfinished import write_whole
from las_sj.evaluation.classification import by_length, columns_of, read_rows, unseen_batches
from las_sj.evaluation.digest import digest_of
from las_sj.evaluation.glue import predictions_of, score

WINDOW = 512
Batches = list[dict[str, torch.Tensor]]
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A model with its data.

    Attributes:
        name: of both.
        ann: the model.
        calibration, check, evaluation: batches.
        classifier: its task, or None of a language model.
        labels: of a classifier, one for each row of `evaluation`.
    """

    name: str
    ann: PreTrainedModel
    calibration: Batches
    check: Batches
    evaluation: Batches
    classifier: Classifier | None = None
    labels: Sequence[float] = ()

    @property
    def digest(self) -> str:
        return digest_of([self.ann.state_dict(), self.calibration, self.check, self.evaluation])

    @property
    def change(self) -> str:
        """What is measured besides the loss, as a heading."""
        return "perplexity" if self.classifier is None else "score, ANN → SNN"


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
    both, called = unseen_batches(found.task, found.ann, found.tokenizer, data, 24)
    rows = read_rows(found.task, found.data, found.limit)
    evaluation, order = by_length(found.task, found.ann, found.tokenizer, rows, 32)
    name = f"{found.task.name}, {len(rows)} rows; calibrated and checked on {called}"
    labels = [rows["label"][index] for index in order]
    return Case(name, found.ann, both[::2], both[1::2], evaluation, found, labels)


@torch.no_grad()
def metric_of(case: Case, model: PreTrainedModel) -> float:
    """The metric of a classifier, in points."""
    assert case.classifier is not None
    task = case.classifier.task
    logits = torch.cat([model(**batch).logits for batch in case.evaluation])
    return 100 * score(task, predictions_of(task, logits.numpy()[:, columns_of(case.ann, task)]), case.labels)


def kept_row(work: Path | None, key: object, make: Callable[[], Row]) -> Row:
    """A row of a table, from `work` if it is known.

    Args:
        work: folder for finished rows, or None.
        key: all that the row depends on, as plain values.
        make: makes it.
    """
    if work is None:
        return make()
    kept = work / f"{digest_of(key)[:16]}.json"
    if not kept.exists():
        write_whole(kept, make())
    row: Row = json.loads(kept.read_text(encoding="utf-8"))
    return row


def cases(asked: argparse.Namespace) -> Iterator[Case]:
    """Each classifier; without any, SmolLM2. The folder for finished rows is there then.

    Args:
        asked: what `parser_of` has read.
    """
    if asked.work is not None:
        asked.work.mkdir(parents=True, exist_ok=True)
    if not asked.classifiers:
        yield language_model(asked.data, asked.tokens)
    glue = GLUE if asked.data == DATA else asked.data / "glue"
    for folder in asked.classifiers:
        yield classifier(folder, glue, asked.limit)


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """The options by which scripts name cases, and a folder for finished rows."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classifiers", nargs="*", type=Path, help="folders that las_sj.finetune wrote")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--tokens", type=int, default=16384, help="of the test text")
    parser.add_argument("--limit", type=int, help="rows of the development split (all)")
    parser.add_argument("--work", type=Path, help="folder for finished rows")
    return parser
