"""Where files really lie, and what they are."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path


def lies_in(given: Path, folder: Path) -> bool:
    """Whether a file, or a folder with what is linked from it, really lies in another folder."""
    place = folder.resolve()
    return any(_is_in(path, place) for path in (given, *_links(given)))


def _is_in(path: Path, place: Path) -> bool:
    try:
        return real_path(path).is_relative_to(place)
    except OSError:  # nothing that could be read, or lost
        return False


def _links(folder: Path) -> Iterator[Path]:
    """All links below a folder."""
    for parent, folders, files in os.walk(folder):
        yield from (path for name in (*folders, *files) if (path := Path(parent, name)).is_symlink())


def real_path(path: Path) -> Path:
    """A path without links in it; what lies there need not exist.

    Raises:
        OSError: links lead back to themselves, or it is too long.
    """
    try:
        real = path.resolve()
        real.exists()  # which finds names that are too long
    except RuntimeError:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from None
    return real


def check_regular(path: Path) -> None:
    """Make sure that a file has an end: devices and pipes may have none.

    Raises:
        OSError: it does not exist, or is something else.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        kind = "Is a directory" if path.is_dir() else "no regular file"
        raise OSError(errno.EINVAL, kind, str(path))
