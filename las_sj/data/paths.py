"""Where files really lie."""

import os
from collections.abc import Iterator
from pathlib import Path


def lies_in(given: Path, folder: Path) -> bool:
    """Whether a file, or a folder with what is linked from it, really lies in another folder."""
    place = folder.resolve()
    return any(path.resolve().is_relative_to(place) for path in (given, *_links(given)))


def _links(folder: Path) -> Iterator[Path]:
    """All links below a folder."""
    for parent, folders, files in os.walk(folder):
        yield from (path for name in (*folders, *files) if (path := Path(parent, name)).is_symlink())
