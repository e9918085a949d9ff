"""Where a training keeps its checkpoints until its output is written, so that it goes on where it was cut off."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from las_sj.data.unfinished import UnfinishedFolder, UnfinishedWork
from las_sj.training.errors import TrainingError
from las_sj.training.whole import WHOLE

TRAINING = UnfinishedWork("a training", "checkpoints", "training_in_progress.json", TrainingError)
CHECKPOINT = "checkpoint-"
_NUMBER = re.compile(r"[0-9]{1,12}")

Fingerprint = dict[str, Any]


class UnfinishedTraining(UnfinishedFolder):
    """The folder of one training; arguments are those of `UnfinishedFolder`, and the error is a TrainingError."""

    work = TRAINING

    def checkpoint(self) -> Path | None:
        """The last checkpoint that was written to its end."""
        return last_checkpoint(self.folder)

    @property
    def has_something(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self.checkpoint() is not None

    def _empty(self) -> None:
        for path in _numbered(self.folder).values():
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def unfinished_training(folder: Path, fingerprint: Fingerprint, restart: bool) -> Iterator[UnfinishedTraining]:
    """The folder of a training, for the time of it; arguments and errors are those of `UnfinishedTraining`."""
    unfinished = UnfinishedTraining(folder, fingerprint, restart)
    try:
        yield unfinished
    finally:
        unfinished.close()


def last_checkpoint(folder: Path) -> Path | None:
    """The last whole checkpoint in a folder; None where there is none."""
    whole = {step: path for step, path in _numbered(folder).items() if (path / WHOLE).exists()}
    return whole[max(whole)] if whole else None


def _numbered(folder: Path) -> dict[int, Path]:
    """The checkpoints in a folder, by step; what has another name is somebody else's."""
    named = {path.name.removeprefix(CHECKPOINT): path for path in folder.glob(f"{CHECKPOINT}*")}
    return {int(number): path for number, path in named.items() if _NUMBER.fullmatch(number)}
