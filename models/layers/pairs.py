"""Which scores of an attention call take part: neither masked nor of padding. Only monitors ask."""

from dataclasses import dataclass

from torch import Tensor

Partners = tuple[Tensor | None, Tensor | int]


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

    def of_queries(self) -> Partners:
        """For neurons [B, H, S_q, D]: which are live, and the keys that each meets."""
        if self.live is None:
            return None, self.keys
        keys = self.live.sum(-1, keepdim=True)
        return keys > 0, keys

    def of_keys(self, first: int, new: int) -> Partners:
        """For neurons [B, H_kv, S_new, D], which are the keys from `first` on: which are live, and the queries of all
        heads of the group that each meets."""
        if self.live is None:
            return None, self.queries * self.groups
        queries = self.live[..., first : first + new].sum(-2).unsqueeze(-1)  # [B, 1 or H, S_new, 1]
        shared = queries.shape[1] == 1
        queries = queries * self.groups if shared else queries.unflatten(1, (-1, self.groups)).sum(2)
        return queries > 0, queries

    def of_scores(self, heads: int) -> "ScorePairs":
        """For scores [B, H_kv, G, S_q, S_k] with H_kv heads of keys."""
        if self.live is None:
            return ScorePairs(None, self.keys)
        shared = self.live.shape[1] == 1
        live = self.live.unsqueeze(1) if shared else self.live.unflatten(1, (heads, self.groups))
        return ScorePairs(live, self.keys)


@dataclass(frozen=True)
class ScorePairs:
    """Live pairs in the layout of the scores: bool [..., S_q, S_k], or None where all are."""

    live: Tensor | None
    keys: int

    def per_query(self) -> Partners:
        """For neurons [..., S_q, 1]: which are live, and the keys that each meets."""
        if self.live is None:
            return None, self.keys
        keys = self.live.sum(-1, keepdim=True)
        return keys > 0, keys

    def blocks(self, batch: int, heads: int) -> "ScorePairs":
        """[B, H_kv or 1, G or 1, S_q, S_k] as [B·H_kv, G or 1, S_q, S_k]."""
        if self.live is None:
            return self
        return ScorePairs(self.live.expand(batch, heads, *self.live.shape[2:]).flatten(0, 1), self.keys)

    def __getitem__(self, part: slice) -> "ScorePairs":
        return ScorePairs(None if self.live is None else self.live[part], self.keys)


def live_pairs(mask: Tensor | None, token_mask: Tensor | None, shape: tuple[int, int], least: float) -> Tensor | None:
    """Pairs that are not masked and whose query is no padding, bool [B, 1 or H, S_q, S_k]; None for all.

    Args:
        mask: additive, [B, 1 or H, S_q, S_k], or None.
        token_mask: bool [B, S], False on padding, or None.
        shape: (S_q, S_k).
        least: a mask below this hides the pair.
    """
    live = None if mask is None else mask > least
    queries = shape[0]
    if token_mask is not None and token_mask.shape[1] >= queries:
        rows = token_mask[:, None, -queries:, None]
        live = rows.expand(-1, -1, -1, shape[1]) if live is None else live & rows
    return None if live is None or bool(live.all()) else live
