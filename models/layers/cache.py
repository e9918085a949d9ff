"""The key-value cache: keys and values are coded once, when they arrive, and the cache keeps the coded sums.

A cache of transformers, dynamic or static, holds [B, H, S, D] in both executions, never T copies. What it holds acts as
weights of later queries and probabilities and never fires again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import StaticLayer


class CacheWrite:
    """Stands for a cache in one call of an attention module, and notes where the spiking core should write.

    Modelling code hands keys and values to the cache before attention codes them.

    Args:
        cache: the real cache.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.layer = 0
        self.arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    def update(self, key: Tensor, value: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Note where `Cache.update` was asked to write; returns the new keys and values alone, still uncoded."""
        self.layer = layer_idx
        self.arguments = (args, kwargs)
        return key, value

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)

    def length(self, queries: int) -> int:
        """How many keys there will be, with those of `queries` new tokens."""
        return int(self.cache.get_mask_sizes(queries, self.layer)[0])

    def first_slot(self, keys: int, new: int) -> int:
        """Where, among `keys` keys, the `new` ones will lie; of a static window that is full, the last slots."""
        return min(int(self.cache.get_seq_length(self.layer)), keys - new)

    def store(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, int]:
        """Store coded sums [B, H, S_new, D].

        Returns:
            All keys and values, [B, H, S, D], and how many of the last ones are those that were just stored; 0 where
            they may lie elsewhere, as in a static cache.
        """
        assert self.arguments is not None
        args, kwargs = self.arguments
        keys, values = self.cache.update(key, value, self.layer, *args, **kwargs)
        static = isinstance(self.cache.layers[self.layer], StaticLayer)
        return keys, values, 0 if static else key.shape[2]


def catch_write(
    arguments: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], CacheWrite | None]:
    """An attention module's arguments with a `CacheWrite` in the place of the cache, and it, where there is one."""
    write = next((CacheWrite(item) for item in (*arguments, *named.values()) if isinstance(item, Cache)), None)
    if write is None:
        return arguments, named, None
    arguments = tuple(write if isinstance(item, Cache) else item for item in arguments)
    return arguments, {name: write if isinstance(item, Cache) else item for name, item in named.items()}, write


_PENDING: ContextVar[CacheWrite | None] = ContextVar("las_sj_cache_write", default=None)


_TRACED: list[CacheWrite | None] = []  # the same where torch compiles, which knows no context variables


@contextmanager
def pending(write: CacheWrite | None) -> Iterator[None]:
    """Within this context, a call of an attention module, its core finds the cache that it should write to."""
    if torch.compiler.is_compiling():
        _TRACED.append(write)
        yield
        _TRACED.clear()
        return
    before = _PENDING.get()
    _PENDING.set(write)
    try:
        yield
    finally:
        _PENDING.set(before)


def take_pending() -> CacheWrite | None:
    """The write that the attention module around the core has announced, once; None without a cache."""
    if torch.compiler.is_compiling():
        return _TRACED.pop() if _TRACED else None
    write = _PENDING.get()
    _PENDING.set(None)
    return write
