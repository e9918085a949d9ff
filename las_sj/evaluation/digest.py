"""A digest of what a model is given, or of the model, by which finished work is known again."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch


def digest_of(value: Any) -> str:
    """A digest of a value: the same for equal values only, in any process.

    Args:
        value: tensors, files (as a `Path`: what they hold), numbers, texts, None; mappings and sequences of them.

    Raises:
        TypeError: it is something else.
    """
    found = sha256()
    _add(found, value)
    return found.hexdigest()


def _add(found: Any, value: Any) -> None:
    """Each part goes in with its kind and size, so that no two values look alike."""
    if isinstance(value, torch.Tensor):
        found.update(f"tensor {value.dtype} {tuple(value.shape)};".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    elif isinstance(value, Path):
        content = value.read_bytes()
        found.update(f"file {len(content)};".encode())
        found.update(content)
    elif isinstance(value, Mapping):
        found.update(f"mapping {len(value)};".encode())
        for name in sorted(value):
            _add(found, name)
            _add(found, value[name])
    elif isinstance(value, str | int | float | bool | None):
        text = repr(value).encode()
        found.update(f"plain {len(text)};".encode())
        found.update(text)
    elif isinstance(value, Sequence):
        found.update(f"sequence {len(value)};".encode())
        for part in value:
            _add(found, part)
    else:
        raise TypeError(f"no digest of a {type(value).__name__}")
