"""Where a training keeps its checkpoints until its output is written, so that it goes on where it was cut off."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from las_sj.data.paths import check_regular
from las_sj.data.writing import writing
from las_sj.training.errors import TrainingError

FINGERPRINT = "training_in_progress.json"
PARTIAL = f".{FINGERPRINT}"
LOCK = ".lock"
CHECKPOINTS = "checkpoint-*"
WHOLE = "whole.json"  # what a checkpoint has once all of it is written

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
        if not (restart and (folder / FINGERPRINT).exists()):
            check_unfinished(folder, fingerprint)
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
            write_whole(folder / FINGERPRINT, fingerprint)

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
        for name in (FINGERPRINT, PARTIAL, LOCK):
            (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # somebody put something there
            self.folder.rmdir()

    def _empty(self) -> None:
        for path in self.folder.glob(CHECKPOINTS):
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
    whole = [path.parent for path in folder.glob(f"{CHECKPOINTS}/{WHOLE}")]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """Write JSON so that a file of that name is whole, whenever the process is killed."""
    partial = path.with_name(f".{path.name}")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(content, file, sort_keys=True, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def check_unfinished(folder: Path, fingerprint: Fingerprint) -> None:
    """Make sure that a folder may hold the checkpoints of a training: it is new or empty, or is of the same.

    Args:
        folder: of checkpoints.
        fingerprint: of the training, as far as it is known.

    Raises:
        TrainingError: it is something else.
    """
    if folder.exists() and not folder.is_dir():
        raise TrainingError(f"{folder} is a file, and checkpoints go into a folder of that name: move it away")
    if not folder.exists() or not any(path.name not in (LOCK, PARTIAL) for path in folder.iterdir()):
        return
    try:
        check_regular(folder / FINGERPRINT)
        found = json.loads((folder / FINGERPRINT).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise TrainingError(f"{folder} does not hold an unfinished training: move it away") from None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise TrainingError(f"{folder} is of another training: --restart begins anew")
    names = [name for name, value in fingerprint.items() if found.get(name) != json.loads(json.dumps(value))]
    if names:
        other = ", ".join(names).replace("_", " ")
        raise TrainingError(f"{folder} is of a training with other {other}: --restart begins anew")
