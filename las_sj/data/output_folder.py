"""An output folder that appears whole or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPORT = "las_report.json"


class OutputError(ValueError):
    """The output folder cannot be used; the message says why."""


def check_output(path: Path, overwrite: bool, mark: str = REPORT, of: str = "a conversion") -> None:
    """Refuse what exists already, unless it may be overwritten.

    Args:
        path: the folder to be written.
        overwrite: whether it may exist.
        mark: the file that an earlier output, which may be overwritten, holds.
        of: what writes it, for the message.

    Raises:
        OutputError: it exists and `overwrite` is not set, or it is not a folder, or holds something else.
    """
    if path.is_symlink() and not path.exists():
        raise OutputError(f"{path} is a link to nothing: give a folder")
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file: give a folder")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists: give another folder, or --overwrite")
    place = next(folder for folder in path.absolute().parents if folder.exists())
    try:  # under the longest name that is needed
        tempfile.TemporaryDirectory(prefix=f".{path.name}.replaced-", dir=place).cleanup()
    except OSError as error:
        raise OutputError(f"cannot write to {place}: {error.strerror}") from None
    if path.exists() and any(path.iterdir()) and not (path / mark).exists():
        raise OutputError(f"{path} is not the output of {of} (it has no {mark}): give another folder")


@contextmanager
def whole_folder(path: Path, overwrite: bool, mark: str = REPORT, of: str = "a conversion") -> Iterator[Path]:
    """A temporary folder beside `path` that is renamed to it at the end, or removed if anything goes wrong.

    Arguments and errors are those of `check_output`.
    """
    check_output(path, overwrite, mark, of)
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
    try:
        partial.chmod(0o755)
        yield partial
        _replace(path, partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def check_file(path: Path) -> None:
    """Refuse a file that cannot be written, before anything is computed for it.

    Raises:
        OutputError: its folder does not exist or cannot be written to.
    """
    try:
        tempfile.TemporaryDirectory(dir=path.absolute().parent).cleanup()
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that is renamed to it at the end, or removed if anything goes wrong.

    Raises:
        OutputError: the folder does not exist or cannot be written to.
    """
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.absolute().parent))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None
    try:
        yield partial / path.name
        (partial / path.name).replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _replace(path: Path, whole: Path) -> None:
    """Rename `whole` to `path`; a folder that is there goes last, and is back in its place if that fails."""
    if not path.exists():
        whole.rename(path)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.replaced-", dir=path.parent))
    try:
        path.rename(aside / path.name)
        try:
            whole.rename(path)
        except BaseException:
            (aside / path.name).rename(path)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
