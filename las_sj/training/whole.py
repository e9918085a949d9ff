"""What marks a checkpoint of a training as whole: how far the training was, and what each of its files held."""

import hashlib
import json
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from las_sj.data.paths import check_regular
from las_sj.data.unfinished import write_whole
from las_sj.training.errors import CheckpointError

WHOLE = "whole.json"  # what a checkpoint has once all of it is written


@dataclass(frozen=True)
class Whole:
    """How far a training was when it wrote a checkpoint.

    Attributes:
        step: of the optimiser.
        seconds: that the training took until then.
    """

    step: int
    seconds: float


def mark_whole(checkpoint: Path, whole: Whole) -> None:
    """Mark a checkpoint whose files are all written.

    Args:
        checkpoint: its folder.
        whole: how far the training is.
    """
    files = {path.name: _digest(path) for path in checkpoint.iterdir() if path.is_file() and path.name != WHOLE}
    write_whole(checkpoint / WHOLE, {"step": whole.step, "seconds": whole.seconds, "files": files})


def read_whole(checkpoint: Path) -> Whole:
    """How far a training was when it wrote a checkpoint, all of whose files are still those that it wrote.

    Args:
        checkpoint: its folder, as `last_checkpoint` returns.

    Raises:
        CheckpointError: a file is missing or another, or the mark is broken.
    """
    content = _read(checkpoint)
    files, step, seconds = content.get("files"), content.get("step"), content.get("seconds")
    if (
        not isinstance(files, dict)
        or not isinstance(step, int)
        or not isinstance(seconds, float)
        or not isfinite(seconds)
    ):
        raise _broken(checkpoint, f"its {WHOLE} is broken")
    if checkpoint.name != f"checkpoint-{step}":
        raise _broken(checkpoint, f"by its {WHOLE} it is that of step {step}")
    for name, digest in files.items():
        path = checkpoint / Path(name).name
        if not path.is_file():
            raise _broken(checkpoint, f"its {path.name} is missing")
        if _digest(path) != digest:
            raise _broken(checkpoint, f"its {path.name} is not the one that was saved")
    return Whole(step, seconds)


def _read(checkpoint: Path) -> dict[str, Any]:
    try:
        check_regular(checkpoint / WHOLE)
        content = json.loads((checkpoint / WHOLE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise _broken(checkpoint, f"its {WHOLE} is broken")
    return content


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _broken(checkpoint: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{checkpoint} cannot be gone on from ({why}): --restart begins anew")
