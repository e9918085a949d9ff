"""Where compiled libraries are kept: each with its digest, built by one process at a time, whole or not at all."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

_PREFIX = ".build-"  # of folders that libraries are built in
_LOCK = ".lock"
_PATIENCE = 600  # seconds


def folder() -> Path:
    """Where built libraries are kept: $LAS_SJ_CACHE, or las_sj in the user's cache folder."""
    named = os.environ.get("LAS_SJ_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "las_sj"


def kept_or_built(name: str, build: Callable[[Path], None]) -> Path:
    """A library in the cache, built anew where it is not there, or not as it was built.

    Args:
        name: of its file.
        build: writes it to a path.

    Raises:
        OSError: the folder cannot be written to, or another process has been building for too long.
    """
    path = folder() / name
    if _is_whole(path):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / _LOCK, timeout=_PATIENCE):
        if not _is_whole(path):  # another process may have built it meanwhile
            _remove_leftovers(path.parent)
            _build(path, build)
    return path


def _is_whole(path: Path) -> bool:
    """Whether a library is there, with the digest that it was built with: a damaged one would end the process."""
    digest = _digest_beside(path)
    return path.exists() and digest.exists() and digest.read_text(encoding="utf-8", errors="replace") == _digest(path)


def _build(path: Path, build: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=_PREFIX) as name:
        output = Path(name) / path.name
        build(output)
        digest = _digest_beside(output)
        digest.write_text(_digest(output), encoding="utf-8")
        output.replace(path)
        digest.replace(_digest_beside(path))


def _remove_leftovers(cache: Path) -> None:
    """What builds left that were killed: who holds the lock is the only one that builds."""
    for leftover in cache.glob(f"{_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _digest_beside(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
