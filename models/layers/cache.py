"""The key-value cache: keys and values are coded once, when they arrive, and the cache keeps the coded sums.

A cache of transformers, dynamic or static, holds [B, H, S, D] in both executions, never T copies. What it holds acts as
weights of later queries and probabilities and never fires again.
"""

from typing import Any

from torch import Tensor
from transformers import Cache
from transformers.cache_utils import StaticLayer


class Arrival:
    """Stands for a cache in one call of an attention module, and notes what the spiking core should store in it.

    Modelling code hands keys and values to the cache before attention codes them.

    Args:
        cache: the real cache.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.layer = 0
        self.arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    def update(self, key: Tensor, value: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """As `Cache.update`, but nothing is stored yet; returns the new keys and values alone."""
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


def catch_arrivals(arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], Arrival | None]:
    """Put an `Arrival` in the place of the cache among the arguments of an attention module, where there is one."""
    arrival = next((Arrival(item) for item in (*arguments, *named.values()) if isinstance(item, Cache)), None)
    if arrival is not None:
        arguments = tuple(arrival if isinstance(item, Cache) else item for item in arguments)
        named.update({name: arrival for name, item in named.items() if isinstance(item, Cache)})
    return arguments, arrival
