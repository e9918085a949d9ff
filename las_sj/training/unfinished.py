"""Where a training keeps its checkpoints until its output is written, so that it goes on where it was cut off."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from las_sj.data.unfinished import LOCK, UnfinishedWork, write_whole
from las_sj.data.writing import writing
from las_sj.training.errors import TrainingError
from las_sj.training.whole import WHOLE

TRAINING = UnfinishedWork("a training", "checkpoints", "training_in_progress.json", TrainingError)
CHECKPOINT = "checkpoint-"
_NUMBER = re.compile(r"[0-9]{1,12}")

Fingerprint = dict[str, Any]


class UnfinishedTraining:
    """A folder that is one training's alone while it runs.

    Args:
        folder: is made if it does not exist.
        fingerprint: of everything that the course of the training depends on.
        restart: whether to forget what the folder holds, if it is of a training.

    Raises:
        TrainingError: the folder belongs to another training, to none, or to one that is running.
    """

    def __init__(self, folder: Path, fingerprint: Fingerprint, restart: bool = False) -> None:
        self.folder = folder
        if not (restart and (folder / TRAINING.fingerprint).exists()):
            TRAINING.check(folder, fingerprint)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / LOCK)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise TrainingError(f"another training is running in {folder}: wait for it, or stop it") from None
        if restart:
            self._empty()
        with writing(folder):
            write_whole(folder / TRAINING.fingerprint, fingerprint)

    def checkpoint(self) -> Path | None:
        """The last checkpoint that was written to its end."""
        return last_checkpoint(self.folder)

    def close(self) -> None:
        """Let go of the folder; it goes where there is no checkpoint to go on from."""
        if self.checkpoint() is None:
            self.remove()
        self._lock.release()

    def remove(self) -> None:
        """Remove what was kept, and the folder if there is nothing else in it."""
        self._empty()
        for name in (TRAINING.fingerprint, TRAINING.partial, LOCK):
            (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # somebody put something there
            self.folder.rmdir()

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
