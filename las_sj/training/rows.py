"""The order in which a training sees its rows: a function of their numbers and the seed, whenever it is asked for."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers.trainer_pt_utils import get_length_grouped_indices

Row = dict[str, Any]
Change = Callable[[Row, torch.Generator], Row]


class TrainingRows(Dataset[Row]):
    """All rows of a training, one after the other; each epoch has a random order of its own.

    A row follows from its number alone, so that a training that goes on sees what it would have seen.

    Args:
        rows: of the data.
        count: rows of the training, over all epochs.
        seed: of order and changes.
        change: what is done to a row each time that it is seen, such as masking.
        grouped: rows that are seen together, and have about the same number of tokens in "input_ids", so that there
            is little padding; None where all have the same.

    Raises:
        ValueError: there are no rows.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        count: int,
        seed: int,
        change: Change | None = None,
        grouped: int | None = None,
    ) -> None:
        if not len(rows):
            raise ValueError("there is nothing to train on: give at least one row")
        self.rows = rows
        self.count = count
        self.seed = seed
        self.change = change
        self.grouped = grouped
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=int))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Row:
        epoch, place = divmod(number, len(self.rows))
        row = self.rows[int(self._order_of(epoch)[place])]
        return row if self.change is None else self.change(row, generator_of(self.seed, number))

    def _order_of(self, epoch: int) -> np.ndarray:
        if self._order[0] != epoch:
            self._order = epoch, self._permutation(epoch)
        return self._order[1]

    def _permutation(self, epoch: int) -> np.ndarray:
        if self.grouped is None:
            return np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
        lengths = [len(row["input_ids"]) for row in self.rows]
        return np.array(get_length_grouped_indices(lengths, self.grouped, generator=generator_of(self.seed, epoch)))


def generator_of(*seeds: int) -> torch.Generator:
    """Random numbers that follow from some non-negative integers."""
    state = np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
