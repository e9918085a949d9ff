"""A single file that appears whole or not at all, and replaces nothing but an earlier one of its kind."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from las_sj.data.owned_folder import owned_folder
from las_sj.data.paths import real_path
from las_sj.data.writing import OutputError, writing

MADE_BY = "written by las-sj report"  # in every report, so that a later one may replace it
BEGINNING = 4096  # bytes that are looked at for the mark


def check_file(path: Path, mark: str) -> None:
    """Refuse a file that cannot be written, before anything is computed for it.

    Args:
        path: the file.
        mark: words in the beginning of an earlier one, which may be replaced.

    Raises:
        OutputError: it is something else, or its folder does not exist or cannot be written to.
    """
    with _written(path):
        pass
    if path.exists() and not is_marked(path, mark):
        raise OutputError(f"{path} exists, and was not {mark}: give another file, or move it away")


@contextmanager
def whole_file(path: Path, mark: str) -> Iterator[Path]:
    """A temporary file that is renamed to `path` at the end, or removed if anything goes wrong.

    Arguments and errors are those of `check_file`.
    """
    check_file(path, mark)
    with writing(path), _written(path) as file:
        yield file
        file.replace(path.resolve())


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    with ExitStack() as stack:
        try:
            real = real_path(path)
            if real.is_dir():
                raise OutputError(f"{path} is a folder: give a file")
            stage = stack.enter_context(owned_folder(f".{real.name}.partial-", real.parent))
        except OSError as error:
            raise OutputError(f"cannot write {path} ({error.strerror or error}): give another file") from None
        yield stage / real.name


def is_marked(path: Path, mark: str) -> bool:
    """Whether there is a file that has these words in its beginning."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return mark.encode() in file.read(BEGINNING)
