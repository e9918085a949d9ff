"""Which constants say positions, and nothing about a batch: their embeddings are constants, whatever their shape."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

_MARK = "las_is_position"


def note_positions(function: str, arguments: Iterable[Any], output: Any) -> None:
    """Mark what a function of constants returns, where it made positions, or was given nothing else.

    Args:
        function: name of the torch function.
        arguments: that it was given.
        output: what it returned.
    """
    given = [is_position(tensor) for tensor in _tensors(arguments)]
    found = function == "arange" or (bool(given) and all(given))
    for tensor in _tensors((output,)):
        if found or is_position(tensor):  # what is written to may be positions no longer
            setattr(tensor, _MARK, found)


def is_position(x: Tensor) -> bool:
    """Whether a tensor was made of positions alone."""
    return getattr(x, _MARK, False)


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(value)
