"""The OpenMP library that torch has loaded: kernels use it too, so that there is one pool of threads in a process.

Two pools would spin against each other: beside other busy processes a call takes ten times as long.
"""

import re
from pathlib import Path

import torch

_NAME = re.compile(r"lib(gomp|iomp5|omp)\b[\w.-]*\.(so|dylib)[\d.]*$")
_MAPS = Path("/proc/self/maps")


def loaded_runtimes() -> list[Path]:
    """The OpenMP libraries in this process, torch's own first; none where the system does not tell."""
    if not _MAPS.exists():
        return []
    paths = {line.split(maxsplit=5)[-1] for line in _MAPS.read_text(encoding="utf-8").splitlines() if "/" in line}
    found = sorted(Path(path.strip()) for path in paths if _NAME.search(path.strip()))
    return sorted(found, key=lambda path: not path.is_relative_to(_torch_folder()))


def runtime_of_torch() -> Path | None:
    """The OpenMP library that torch runs its threads with; None where nothing tells."""
    brought = sorted(path for path in (_torch_folder() / "lib").glob("lib*") if _NAME.search(path.name))
    return next(iter([*loaded_runtimes(), *brought]), None)


def _torch_folder() -> Path:
    return Path(torch.__file__).resolve().parent
