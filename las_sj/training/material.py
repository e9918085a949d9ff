"""What a network is trained and measured on."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel

from las_sj.data.batches import Batch
from las_sj.evaluation.digest import digest_of
from las_sj.models.execution import is_converted, running
from las_sj.training.rows import Change, Row, TrainingRows

THRESHOLD_ROWS = 64  # that thresholds begin with percentiles of
Collate = Callable[[Sequence[Row]], Batch]
Score = Callable[[PreTrainedModel], dict[str, float]]


@dataclass(frozen=True)
class Material:
    """What a network is trained and measured on.

    Attributes:
        rows: to train on.
        collate: makes a batch of rows, with labels.
        score: measures by name what a model does on held-out rows.
        change: what is done to a row each time that it is seen.
        facts: what the report says of it, which tells it from others.
        grouped: whether a step's rows are to have about the same number of tokens.
        held_out: batches of rows that are measured, without labels, to look at the network with.
    """

    rows: Sequence[Row]
    collate: Collate
    score: Score
    change: Change | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    grouped: bool = False
    held_out: Sequence[Batch] = ()

    def first_batches(self, batch_size: int) -> list[Batch]:
        """Batches of the first rows, without labels: those that thresholds follow from."""
        rows = [self.rows[number] for number in range(min(THRESHOLD_ROWS, len(self.rows)))]
        parts = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
        return [without_labels(self.collate(part)) for part in parts]

    def batches(self, count: int, batch_size: int, seed: int) -> list[Batch]:
        """Batches of rows in a random order, without labels: what neurons are calibrated on.

        Args:
            count: of batches, if there are as many.
            batch_size: rows of each.
            seed: of the order, and of changes.
        """
        count = min(count, len(self.rows) // batch_size)
        rows = TrainingRows(self.rows, count * batch_size, seed, self.change)
        starts = range(0, len(rows), batch_size)
        return [without_labels(self.collate([rows[start + n] for n in range(batch_size)])) for start in starts]

    def digest(self) -> str:
        """A digest of all rows, by which the data is known again."""
        return digest_of([dict(self.rows[number]) for number in range(len(self.rows))])

    @property
    def length(self) -> int:
        """Tokens of the longest row that may be seen."""
        found: int = self.facts["window"] if "window" in self.facts else self.facts["max_length"]
        return found

    @torch.no_grad()
    def measure(self, model: PreTrainedModel) -> dict[str, dict[str, float]]:
        """What a model does on held-out rows: "ann" of a plain model, else "quantised" and "spiking"."""
        executions = {"quantised": "accumulated", "spiking": "temporal"} if is_converted(model) else {"ann": ""}
        found = {}
        model.eval()
        for name, execution in executions.items():
            with running(model, execution) if execution else nullcontext():
                found[name] = self.score(model)
        return found


def without_labels(batch: Batch) -> Batch:
    """A batch that a model is asked about."""
    return {name: value for name, value in batch.items() if name not in ("label", "labels", "special_tokens_mask")}
