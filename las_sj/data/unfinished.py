"""Folders in which long work keeps what it has finished, so that the same command goes on where it was cut off."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from las_sj.data.paths import check_regular
from las_sj.data.writing import writing

LOCK = ".lock"


@dataclass(frozen=True)
class UnfinishedWork:
    """A kind of work that can be cut off.

    Args:
        name: of the work, with its article.
        keeps: what its folders hold.
        fingerprint: file that says what the work depends on.
        error: what is raised where a folder is not for it.
    """

    name: str
    keeps: str
    fingerprint: str
    error: type[Exception]

    @property
    def partial(self) -> str:
        """The file that becomes the fingerprint's."""
        return f".{self.fingerprint}"

    def check(self, folder: Path, fingerprint: dict[str, Any]) -> None:
        """Make sure that a folder may hold this work: it is new or empty, or is of the same.

        Args:
            folder: that the work keeps things in.
            fingerprint: of the work, as far as it is known.

        Raises:
            Exception: `error`, where it is something else.
        """
        if folder.exists() and not folder.is_dir():
            raise self.error(f"{folder} is a file, and {self.keeps} go into a folder of that name: move it away")
        if not folder.exists() or not any(path.name not in (LOCK, self.partial) for path in folder.iterdir()):
            return
        noun = self.name.split()[-1]
        try:
            check_regular(folder / self.fingerprint)
            found = json.loads((folder / self.fingerprint).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            raise self.error(f"{folder} does not hold an unfinished {noun}: move it away") from None
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self.error(f"{folder} is of another {noun}: --restart begins anew")
        names = [name for name, value in fingerprint.items() if found.get(name) != json.loads(json.dumps(value))]
        if names:
            other = ", ".join(names).replace("_", " ")
            raise self.error(f"{folder} is of {self.name} with other {other}: --restart begins anew")


class UnfinishedFolder:
    """A folder that is one work's alone while it runs; subclasses say what it keeps.

    Args:
        folder: is made if it does not exist.
        fingerprint: of everything that the course of the work depends on.
        restart: whether to forget what the folder holds, if it is of such a work.

    Attributes:
        work: the kind of work.

    Raises:
        Exception: the error of `work`: the folder belongs to another one, to none, or to one that is running.
    """

    work: UnfinishedWork

    def __init__(self, folder: Path, fingerprint: dict[str, Any], restart: bool = False) -> None:
        self.folder, work = folder, self.work
        if not (restart and (folder / work.fingerprint).exists()):
            work.check(folder, fingerprint)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / LOCK)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            noun = work.name.split()[-1]
            raise work.error(f"another {noun} is running in {folder}: wait for it, or stop it") from None
        if restart:
            self._empty()
        with writing(folder):
            write_whole(folder / work.fingerprint, fingerprint)

    @property
    def has_something(self) -> bool:
        """Whether there is anything to go on with."""
        raise NotImplementedError

    def _empty(self) -> None:
        """Remove what is kept."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the folder; it goes where there is nothing to go on with."""
        if not self.has_something:
            self.remove()
        self._lock.release()

    def remove(self) -> None:
        """Remove what was kept, and the folder if there is nothing else in it."""
        self._empty()
        for name in (self.work.fingerprint, self.work.partial, LOCK):
            (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # somebody put something there
            self.folder.rmdir()


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """Write JSON so that a file of that name is whole, whenever the process is killed."""
    partial = path.with_name(f".{path.name}")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(content, file, sort_keys=True, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
