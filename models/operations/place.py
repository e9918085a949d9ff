"""Where in a module's forward method an operation stands: the same on every machine, for loops, heads and tokens."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from torch import Tensor

_MODELS = str(Path(__file__).parents[1])
_RULES = str(Path(__file__).with_name("rules"))
_ATTENTION = str(Path(__file__).with_name("attention.py"))
# Code between a function and the modelling code that calls it, or between that and who calls the module.
_BETWEEN = (
    *("torch/overrides.py", "torch/_tensor.py", "torch/_jit_internal.py", "torch/utils/_contextlib.py"),
    "accelerate/hooks.py",  # around the forward methods of modules whose weights it fetches
    "transformers/distributed/tensor_parallel.py",  # around those of layers that processes share
)


def place_of(frame: FrameType | None, ends: CodeType) -> str:
    """The positions in code from a module's forward method down to a call of a torch function.

    Args:
        frame: of the function's caller.
        ends: the code that calls the module.

    Returns:
        One `qualified name:line:columns` for each function on the way, innermost first, lines counted within it.
    """
    found = []
    while frame is not None and frame.f_code is not ends:
        if not _is_between(frame.f_code):
            found.append(_position(frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return " < ".join(found)


def inputs_of_function(frame: FrameType | None) -> list[Tensor]:
    """What gradients go through a `torch.autograd.Function`, in whose forward method a call of a torch function stands.

    Checkpoints are such functions too, but take their gradients from what they run again.

    Returns:
        Arguments of its forward method that need a gradient; none outside of such a function.
    """
    before = None
    while frame is not None:
        file = frame.f_code.co_filename.replace("\\", "/")
        if file.endswith("torch/utils/checkpoint.py"):
            return []
        if file.endswith("torch/autograd/function.py"):
            return [] if before is None else _needing_gradients(before.f_locals.values())
        before, frame = frame, frame.f_back
    return []


def _needing_gradients(values: Iterable[Any]) -> list[Tensor]:
    each = [x for value in values for x in (value if isinstance(value, tuple | list) else (value,))]
    return [x for x in each if isinstance(x, Tensor) and x.requires_grad]


@cache
def _is_between(code: CodeType) -> bool:
    """Whether code is not modelling code, but what stands between it and a rule."""
    file = code.co_filename
    if file.startswith(_MODELS):
        return not file.startswith((_RULES, _ATTENTION))
    return file.replace("\\", "/").endswith(_BETWEEN) or code.co_qualname.startswith("Module._")


@cache
def _position(code: CodeType, instruction: int) -> str:
    line, _, column, end = list(code.co_positions())[instruction // 2]
    return f"{code.co_qualname}:{(line or 0) - code.co_firstlineno}:{column}-{end}"
