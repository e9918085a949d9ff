"""Attention tile by tile: some sequences and heads, a block of their queries, and the keys that these meet."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from las_sj.models.layers.score_mask import Block, ScoreMask, of_heads
from las_sj.neurons import watching

Past = tuple[Tensor, Tensor] | None  # keys and values that act as weights
Shape = tuple[int, int, int, int, int]  # of scores: sequences, heads of keys, heads of queries for each, S_q, S_k
_ON_PROCESSOR = 1 << 21  # scores at a time: bounds memory, and stays in the caches
_IN_TIME = 1 << 24  # of all steps: smaller tiles make more products, after each of which threads wait for one another
_ELSEWHERE = 1 << 26  # launches cost more than memory
_LEAST = 64  # queries at a time: fewer keep products of matrices from being fast
_MULTIPLE = 16  # blocks are of so many queries, or a multiple


@dataclass(frozen=True)
class Tile:
    """A part of the scores.

    Attributes:
        batch: which sequences.
        heads: which heads of keys.
        block: which queries, and which keys.
    """

    batch: slice
    heads: slice
    block: Block

    def of_scores(self, x: Tensor) -> Tensor:
        """The tile of something that broadcasts to all scores, [B or 1, H_kv or 1, ..., S_q, S_k]."""
        return of_heads(x, self.batch, self.heads)[..., self.block.queries, self.block.keys]


@dataclass(frozen=True)
class Operands:
    """What attention is computed from.

    Attributes:
        query: [..., B, H_kv, G, S_q, D].
        key, value: [..., B, H_kv, S_k, D].
        past: keys and values before these, which act as weights, [B, H_kv, S_past, D]; or None.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    past: Past = None

    @property
    def shape(self) -> Shape:
        """Of the scores."""
        batch, heads, groups, queries, _ = self.query.shape[-5:]
        return batch, heads, groups, queries, self.key.shape[-2] + self.past_keys

    @property
    def past_keys(self) -> int:
        """S_past."""
        return 0 if self.past is None else self.past[0].shape[-2]

    def of(self, tile: Tile) -> "Operands":
        """Those of a tile."""
        batch, heads, (first, last) = tile.batch, tile.heads, (tile.block.keys.start, tile.block.keys.stop)
        old = self.past_keys
        new = slice(max(first - old, 0), max(last - old, 0))
        past = None
        if self.past is not None and first < old:
            past_key, past_value = (x[batch, heads, first : min(last, old)] for x in self.past)
            past = (past_key, past_value)
        key, value = (x[..., batch, heads, new, :] for x in (self.key, self.value))
        return Operands(self.query[..., batch, heads, :, tile.block.queries, :], key, value, past)


def tiles_of(operands: Operands, mask: ScoreMask | None) -> list[Tile]:
    """The tiles of a call, those of a few heads in the order of their queries; one, or none, where all pairs are one.

    None where a compiler looks on, which would make constants of the sizes in slices.
    """
    if _needs_one(operands.query):
        return []
    shape, query = operands.shape, operands.query
    batch, heads, _, queries, keys = shape
    size, part = _sizes(shape, query)
    if size >= queries and part >= heads:
        return [Tile(slice(0, batch), slice(0, heads), Block(slice(0, queries), slice(0, keys)))]
    if mask is None:
        starts = range(0, queries, size)
        blocks = [Block(slice(start, min(start + size, queries)), slice(0, keys)) for start in starts]
    else:
        blocks = mask.blocks(size)
    sequences = [slice(0, batch)] if part >= heads else [slice(index, index + 1) for index in range(batch)]
    places = [slice(start, min(start + part, heads)) for start in range(0, heads, part)]
    return [Tile(some, place, block) for some in sequences for place in places for block in blocks]


def _needs_one(query: Tensor) -> bool:
    """Whether a call must be one tile: blocks depend on values, which compilers and CUDA graphs do not see."""
    return query.shape[-2] == 1 or query.is_meta or watching.is_traced(query) or watching.is_captured()


def _sizes(shape: Shape, query: Tensor) -> tuple[int, int]:
    """Queries, and heads of keys, at a time; fewer heads than there are: of one sequence at a time."""
    batch, heads, groups, queries, keys = shape
    steps = len(query) if query.dim() == 6 else 1
    most = _most(query, steps) // (steps * groups * max(keys, 1))
    least = (
        queries if watching.operations_are_followed() else min(_LEAST, queries)
    )  # an audit knows no copies of spikes
    size = most // (batch * heads)
    if size >= least:
        blocks = math.ceil(queries / size)
        return math.ceil(queries / blocks / _MULTIPLE) * _MULTIPLE, heads
    return least, min(max(1, most // max(least, 1)), heads - 1 or 1)


def _most(query: Tensor, steps: int) -> int:
    """Scores of all steps at a time."""
    if query.device.type != "cpu":
        return _ELSEWHERE
    return _ON_PROCESSOR if steps == 1 else _IN_TIME


def joined(outputs: list[Tensor], tiles: list[Tile], shape: Shape) -> Tensor:
    """What the tiles of a call give, [..., B', H', G, S', D], as one tensor [..., B, H_kv, G, S_q, D]."""
    ends = [index + 1 for index, tile in enumerate(tiles) if tile.block.queries.stop == shape[3]]
    parts = [torch.cat(outputs[start:end], -2) for start, end in zip([0, *ends], ends, strict=False)]
    if len(parts) == 1:
        return parts[0]
    dimension = parts[0].dim() - 5
    flat = torch.cat([part.flatten(dimension, dimension + 1) for part in parts], dimension)
    return flat.unflatten(dimension, shape[:2])
