"""What the system says while something is written."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from las_sj.reasons import reason_of

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class OutputError(ValueError):
    """The output cannot be written there; the message says why."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Have errors of the system name what is being written, and what to do.

    Raises:
        OutputError: in their place.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        remedy = "make room, or write elsewhere" if is_full(error) else "write elsewhere, or mend that"
        raise OutputError(f"{path} cannot be written ({_why(error)}): {remedy}") from error


def is_full(error: Exception) -> bool:
    """Whether there was no room for what was to be written."""
    words = any(os.strerror(number).lower() in str(error).lower() for number in FULL)
    return isinstance(error, OSError | SafetensorError) and (getattr(error, "errno", None) in FULL or words)


def _why(error: Exception) -> str:
    """The words of the system, without its number, which safetensors puts into a text of its own."""
    if isinstance(error, OSError):
        return reason_of(error)
    found = re.search(r"(?:I/O error: |\[Errno \d+\] )?(?P<words>[^:]+?)(?: \(os error \d+\))?$", str(error))
    return found["words"] if found else str(error)
