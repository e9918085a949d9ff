"""What models write of a sound or of a text: tokens of the SNN beside those of the ANN, each after its own."""

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import torch

from las_sj.checkpoint.placement import input_device
from las_sj.conversion.decoder_inputs import greedy_tokens
from las_sj.conversion.media_batches import model_batch
from las_sj.data.batches import Batch, to_device
from las_sj.data.modalities import modalities_of
from las_sj.data.text import TextError, padded_lines
from las_sj.evaluation.counted import costs_of
from las_sj.evaluation.journal import Journal, Record
from las_sj.evaluation.paired import Pair
from las_sj.evaluation.result import TaskResult, measure
from las_sj.models.heads import transcribes_frames

TEXT_TO_TEXT = "text_to_text"


class LineBatches(Sequence[Batch]):
    """The lines of a text, one in a batch; each with what the ANN writes of it.

    Args:
        pair: models with a decoder after an encoder, with their tokenizer.
        lines: of the text, none of them blank.
        window: tokens of a line, at most.
    """

    def __init__(self, pair: Pair, lines: Sequence[str], window: int) -> None:
        self.pair, self.lines, self.window = pair, lines, window

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, index: int) -> Batch: ...
    @overload
    def __getitem__(self, index: slice) -> list[Batch]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        (batch,) = padded_lines(self.pair.tokenizer, self.lines[index], 1, self.window)
        return model_batch(self.pair.ann, batch)

    @property
    def identities(self) -> list[list[Any]]:
        """What each batch is made of, by which its record is known again."""
        return [[line, self.window] for line in self.lines]


def lines_of(text: str, limit: int | None) -> list[str]:
    """The lines of a text that are not blank.

    Args:
        text: any.
        limit: how many are taken, the first ones; None for all.

    Raises:
        TextError: there are none.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()][:limit]
    if not lines:
        raise TextError("the text has no line with a token: give more text")
    return lines


def check_writer(model: Any) -> None:
    """Raise a TextError where a model has no decoder that writes after an encoder of text."""
    takes = modalities_of(type(model))
    if not (takes.only_text and takes.decoder and model.can_generate()):
        raise TextError(f"{type(model).__name__} has no decoder after an encoder of text, as {TEXT_TO_TEXT} needs")


def evaluate_lines(pair: Pair, journal: Journal, batches: LineBatches, source: str, seed: int) -> TaskResult:
    """Compare the tokens that both models, each by itself, write of the lines of a text.

    Args:
        pair: models with a decoder after an encoder of text.
        journal: keeps finished batches.
        batches: of the text.
        source: name of the text.
        seed: of the bootstrap.
    """
    return evaluate_written(TEXT_TO_TEXT, f"lines of {source}", "lines", pair, journal, batches, seed)


def evaluate_written(
    task: str, source: str, unit: str, pair: Pair, journal: Journal, batches: Any, seed: int
) -> TaskResult:
    """Compare the tokens that both models, each by itself, write of batches of one row.

    Args:
        task: its name.
        source: of the rows, in words.
        unit: what the rows are.
        pair: models that write.
        journal: keeps finished batches.
        batches: a sequence with identities, such as `LineBatches`.
        seed: of the bootstrap.
    """

    def compute(index: int) -> Record:
        batch = {name: value for name, value in batches[index].items() if not name.startswith("decoder_")}
        ann, snn, seconds = pair.each(lambda model: written_tokens(model, batch))
        return {"ann": ann, "snn": snn, **seconds}

    records = journal.collect(task, batches.identities, compute)
    same = [_same_share(record["ann"], record["snn"]) for record in records]
    sides = [np.ones((len(same), 1)), np.array(same)[:, None]]
    return TaskResult(
        task=task,
        description=f"{source}; greedy tokens, each model after its own, from the first on, as the ANN's",
        rows=len(batches),
        unit=unit,
        measures=[measure("tokens as the ANN's", lambda rows: float(rows.mean()), sides, seed)],
        agreement=float(np.mean([record["ann"] == record["snn"] for record in records])),
        **costs_of(pair, batches, journal, task, records),
    )


@torch.no_grad()
def written_tokens(model: Any, batch: Batch) -> list[int]:
    """What a model writes of one row: greedy tokens, or those of the frames of a sound without repetitions."""
    if not transcribes_frames(model):
        return [int(token) for token in greedy_tokens(model, batch)[0]]
    frames = model(**to_device(batch, input_device(model))).logits[0].argmax(-1)
    return [int(token) for token in torch.unique_consecutive(frames)]


def _same_share(first: Sequence[int], second: Sequence[int]) -> float:
    """Share of the positions of the longer text at which both have the same token."""
    longest = max(len(first), len(second), 1)
    return sum(a == b for a, b in zip(first, second, strict=False)) / longest
