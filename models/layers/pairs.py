"""Which scores of an attention call take part: neither masked nor of padding. Only recorders ask."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from las_sj.models.layers.cache import CacheWrite
from las_sj.models.layers.tiles import Tile
from las_sj.neurons import FanOut


@dataclass(frozen=True)
class Pairs:
    """Queries and keys that meet.

    Attributes:
        live: bool [B, 1 or H, S_q, S_k], or None where all pairs are.
        groups: query heads for each head of keys.
        queries, keys: S_q and S_k.
    """

    live: Tensor | None
    groups: int
    queries: int
    keys: int

    def of_queries(self) -> FanOut:
        """Of neurons [B, H, S_q, D]: those with a key, and the keys that each meets."""
        if self.live is None:
            return FanOut(None, self.keys)
        keys = self.live.sum(-1, keepdim=True)
        return FanOut(keys > 0, keys)

    def of_keys(self, first: int, new: int) -> FanOut:
        """Of neurons [B, H_kv, S_new, D], keys from `first` on: those with a query, and the queries that each meets.

        Queries of all heads of the group count.
        """
        if self.live is None:
            return FanOut(None, self.queries * self.groups)
        queries = self.live[..., first : first + new].sum(-2).unsqueeze(-1)  # [B, 1 or H, S_new, 1]
        shared = queries.shape[1] == 1
        queries = queries * self.groups if shared else queries.unflatten(1, (-1, self.groups)).sum(2)
        return FanOut(queries > 0, queries)

    def of_scores(self, heads: int) -> "ScorePairs":
        """The pairs in the layout of scores [B, H_kv, G, S_q, S_k] with H_kv heads of keys."""
        if self.live is None:
            return ScorePairs(None, self.keys)
        shared = self.live.shape[1] == 1
        live = self.live.unsqueeze(1) if shared else self.live.unflatten(1, (heads, self.groups))
        return ScorePairs(live, self.keys)


@dataclass(frozen=True)
class ScorePairs:
    """Live pairs in the layout of the scores.

    Attributes:
        live: bool [..., S_q, S_k], or None where all are.
        keys: S_k.
    """

    live: Tensor | None
    keys: int

    def each(self) -> FanOut:
        """Of neurons [..., S_q, S_k], one for each score."""
        return FanOut(self.live)

    def per_query(self) -> FanOut:
        """Of neurons [..., S_q, 1]: those with a key, and the keys that each meets."""
        if self.live is None:
            return FanOut(None, self.keys)
        keys = self.live.sum(-1, keepdim=True)
        return FanOut(keys > 0, keys)

    def of(self, tile: Tile) -> "ScorePairs":
        """Those of a tile."""
        return self if self.live is None else ScorePairs(tile.of_scores(self.live), self.keys)


class LazyPairs:
    """`Pairs` that are worked out when a recorder asks first, and not at all without one.

    Args:
        find: works them out.
    """

    def __init__(self, find: Callable[[], Pairs]) -> None:
        self._find = find

    @cached_property
    def found(self) -> Pairs:
        """The pairs."""
        return self._find()

    def of_queries(self) -> FanOut:
        """Fan-out of the queries."""
        return self.found.of_queries()

    def of_keys(self, write: CacheWrite | None, new: int) -> FanOut:
        """Fan-out of the `new` keys, or values, of this call."""
        return self.found.of_keys(0 if write is None else write.first_slot(self.found.keys, new), new)

    def of_scores(self, heads: int, tile: Tile | None = None) -> "LazyScores":
        """The pairs in the layout of scores with `heads` heads of keys, or of a tile of them."""
        if tile is None:
            return LazyScores(lambda: self.found.of_scores(heads))
        return LazyScores(lambda: self.found.of_scores(heads).of(tile))


class LazyScores:
    """`ScorePairs` that are worked out when a recorder asks first.

    Args:
        find: works them out.
    """

    def __init__(self, find: Callable[[], ScorePairs]) -> None:
        self._find = find

    @cached_property
    def found(self) -> ScorePairs:
        """The pairs."""
        return self._find()

    def each(self, synapses: int | None = None) -> FanOut:
        """Fan-out of neurons of single scores: `synapses` for each spike, or the site's own."""
        return FanOut(self.found.live, synapses)

    def per_query(self) -> FanOut:
        """Fan-out of neurons that each query has one of, to the keys that it meets."""
        return self.found.per_query()

    def queries(self) -> FanOut:
        """Which of the neurons that each query has one of take part; the site's own fan-out."""
        return FanOut(self.found.per_query().live)


def live_pairs(mask: Tensor | None, token_mask: Tensor | None, shape: tuple[int, int], least: float) -> Tensor | None:
    """Pairs that are not masked and whose query is no padding, bool [B, 1 or H, S_q, S_k]; None for all.

    Args:
        mask: additive, or bool (True takes part), [B, 1 or H, S_q, S_k]; or None.
        token_mask: bool [B, S], False on padding, or None.
        shape: (S_q, S_k).
        least: an additive mask below this hides the pair.
    """
    live = mask if mask is None or mask.dtype == torch.bool else mask > least
    queries = shape[0]
    if token_mask is not None and token_mask.shape[1] >= queries:
        rows = token_mask[:, None, -queries:, None]
        live = rows.expand(-1, -1, -1, shape[1]) if live is None else live & rows
    return None if live is None or bool(live.all()) else live
