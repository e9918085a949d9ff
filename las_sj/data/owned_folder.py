"""Temporary folders that belong to a living process: what a killed one left is removed by the next.

A folder is owned for as long as its process holds a lock in it, which the system lets go of however the process ends.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

LOCK = ".las_sj.lock"
RANDOM = 8  # characters that mkdtemp adds to the prefix
TRIES = 10

Rescue = Callable[[Path], None]


@contextmanager
def owned_folder(prefix: str, place: Path | None = None, rescue: Rescue | None = None) -> Iterator[Path]:
    """A new folder, removed at the end with all that is in it; first those of the same prefix go that nobody owns.

    Args:
        prefix: of its name.
        place: where it lies; None is the system's folder for temporary files.
        rescue: takes out of an abandoned folder what must not be removed with it.

    Raises:
        OSError: it cannot be made there.
    """
    place = Path(tempfile.gettempdir()) if place is None else place
    remove_abandoned(prefix, place, rescue)
    folder, lock = _make(prefix, place)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def remove_abandoned(prefix: str, place: Path, rescue: Rescue | None = None) -> None:
    """Remove what `owned_folder` made and could not remove, as its process was killed; arguments are the same."""
    with suppress(OSError):  # a place that nobody may look into
        for folder in sorted(place.iterdir()):
            made = folder.name.startswith(prefix) and len(folder.name) == len(prefix) + RANDOM
            if made and folder.is_dir() and not folder.is_symlink():
                with suppress(OSError, NotImplementedError):  # of somebody else, or where nothing can be locked
                    _remove_if_abandoned(folder, rescue)


def _remove_if_abandoned(folder: Path, rescue: Rescue | None) -> None:
    if not (folder / LOCK).is_file():
        folder.rmdir()  # killed before it took the lock; whatever has content but no lock is somebody else's
        return
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return
    try:
        if rescue is not None:
            rescue(folder)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()


def _make(prefix: str, place: Path) -> tuple[Path, BaseFileLock]:
    """A folder, and its lock, which is held."""
    for _ in range(TRIES):
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        lock = FileLock(folder / LOCK)
        with suppress(Timeout, FileNotFoundError):  # another process saw it without a lock, and is removing it
            lock.acquire(timeout=0)
            return folder, lock
    raise OSError(f"cannot hold a folder {prefix}… in {place}: other processes remove it")
