"""What the system says while something is written."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError


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
        raise OutputError(f"{path} cannot be written ({_why(error)}): make room, or write elsewhere") from error


def _why(error: Exception) -> str:
    """The words of the system, without its number, which safetensors puts into a text of its own."""
    found = re.search(r"(?:I/O error: |\[Errno \d+\] )?(?P<words>[^:]+?)(?: \(os error \d+\))?$", str(error))
    return str(getattr(error, "strerror", None) or (found["words"] if found else error))
