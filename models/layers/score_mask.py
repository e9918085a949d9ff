"""What a mask leaves of the scores: blocks of queries, and the keys that they meet.

A mask is looked over once a call, whatever the number of layers. Rows that hide all of their keys are of padding, and
nobody reads them; they see what the other rows of their block see, so that every softmax is one of numbers.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from las_sj.models.call import Call
from las_sj.neurons import watching

MASKED = {torch.float16: -3e4, torch.bfloat16: -1e9, torch.float32: -1e9, torch.float64: -1e9}
_WORD = 8  # keys that are looked over as one number
_ALL_OF_A_WORD = 0x0101010101010101
_KEPT = 4  # masks of a call: models with windows have two, and code of others may make one in each layer
_NOTES = "score masks"


def as_added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A bool mask, True where a pair takes part, as eager code of transformers adds it to scores, in its shape."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)


@dataclass(frozen=True)
class Block:
    """Queries that are attended for together.

    Attributes:
        queries: which.
        keys: from the first to the last that one of them meets; none where the mask hides all.
        hidden: among those keys, from the first to the last that the mask hides from one of the queries; or None.
    """

    queries: slice
    keys: slice
    hidden: slice | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no query meets a key."""
        return self.keys.start == self.keys.stop


@dataclass(frozen=True)
class HiddenPairs:
    """Some columns of a block of scores [..., S_q, S_k], and the pairs in them that are hidden.

    Attributes:
        pairs: bool, broadcastable to the columns of the scores.
        columns: which keys of the block.
    """

    pairs: Tensor
    columns: slice

    def hide(self, scores: Tensor, share: int) -> Tensor:
        """Lower the hidden scores in place; `share`: the number of steps that they are summed over."""
        scores[..., self.columns].masked_fill_(self.pairs, MASKED[scores.dtype] / share)
        return scores


class ScoreMask:
    """A mask of scores.

    Args:
        mask: additive, or bool (True takes part), [B or 1, 1 or H_kv, 1 or G, S_q, S_k].
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self._whole: dict[torch.dtype, Tensor] = {}
        self._blocks: dict[int, list[Block]] = {}

    @cached_property
    def visible(self) -> Tensor:
        """Pairs that are not hidden, bool, as the mask; of one sequence where all have the same mask."""
        mask = self.mask[:1] if self.mask.stride(0) == 0 else self.mask
        return mask if mask.dtype == torch.bool else mask > MASKED[mask.dtype] / 2

    @cached_property
    def only_hides(self) -> bool:
        """Whether the mask hides pairs, and changes no score of another."""
        return self.mask.dtype == torch.bool or not bool(((self.mask != 0) & self.visible).any())

    @cached_property
    def _words(self) -> Tensor:
        """Visible pairs, eight keys to a number, int64 [..., S_q, ⌈S_k/8⌉]."""
        keys = self.visible.shape[-1]
        return F.pad(self.visible.view(torch.uint8), (0, -keys % _WORD)).contiguous().view(torch.int64)

    @cached_property
    def _blind(self) -> Tensor | None:
        """Rows that see nothing, bool [..., S_q, 1]; None where there is none."""
        blind = self._words.amax(-1, keepdim=True) == 0
        return blind if bool(blind.any()) else None

    def whole(self, dtype: torch.dtype) -> Tensor:
        """The mask as it is added to scores of a type; blind rows are 0."""
        if dtype not in self._whole:
            self._whole[dtype] = _added(self.mask, dtype)
        return self._whole[dtype]

    def blocks(self, size: int) -> list[Block]:
        """Blocks of at most `size` queries."""
        if size not in self._blocks:
            self._blocks[size] = self._find_blocks(size)
        return self._blocks[size]

    def _find_blocks(self, size: int) -> list[Block]:
        queries, keys = self.mask.shape[-2:]
        ends = [self._ends(slice(start, start + size)) for start in range(0, queries, size)]
        blocks = []
        for index, (first, last, first_hidden, last_hidden) in enumerate(torch.stack(ends).mul(_WORD).tolist()):
            last, last_hidden = min(last, keys), min(last_hidden, keys)
            hidden = slice(first_hidden - first, last_hidden - first) if last_hidden > first_hidden else None
            place = slice(index * size, min((index + 1) * size, queries))
            blocks.append(Block(place, slice(first, max(first, last)), hidden))
        return blocks

    def _ends(self, queries: slice) -> Tensor:
        """First and last word that one of the queries sees, and that is not all visible to all of them, int64 [4]."""
        words = self._words[..., queries, :]
        first, last = _span(words.amax((0, 1, 2, 3)) > 0)
        if self._blind is not None:
            words = words.masked_fill(self._blind[..., queries, :], _ALL_OF_A_WORD)
        place = torch.arange(words.shape[-1], device=words.device)
        hidden = (words.amin((0, 1, 2, 3)) < _ALL_OF_A_WORD) & (place >= first) & (place < last)
        return torch.stack([first, last, *_span(hidden)])

    def part(self, batch: slice, heads: slice, block: Block, dtype: torch.dtype) -> "Tensor | HiddenPairs | None":
        """What hides pairs of a block from scores of a type, for some sequences and heads of keys; None: nothing.

        Returns:
            Pairs that are hidden, or, of a mask that changes scores, that part of it.
        """
        if not self.only_hides:
            return _added(of_heads(self.mask, batch, heads)[..., block.queries, block.keys], dtype)
        if block.hidden is None:
            return None
        first = block.keys.start
        columns = slice(first + block.hidden.start, first + block.hidden.stop)
        hidden = ~of_heads(self.visible, batch, heads)[..., block.queries, columns]
        if self._blind is not None:
            hidden &= ~of_heads(self._blind, batch, heads)[..., block.queries, :]
        return HiddenPairs(hidden, block.hidden)


def of_heads(x: Tensor, batch: slice, heads: slice) -> Tensor:
    """Some sequences and heads of keys, of [B or 1, H_kv or 1, ...]."""
    x = x if len(x) == 1 else x[batch]
    return x if x.shape[1] == 1 else x[:, heads]


def _span(of: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the first True in bool [N], and one after the last; both 0 without one."""
    found = of.any()
    numbers = of.to(torch.int8)
    return numbers.argmax(), (len(of) - numbers.flip(0).argmax()) * found


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as it is added to scores of a type: finite, whatever its own type can hold.

    Rows that hide everything are 0: scores would be lost in the mask's rounding.
    """
    least = MASKED[dtype]
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, least)
    elif mask.dtype == dtype:
        mask = mask.clamp(min=least)
    else:
        mask = mask.to(dtype).masked_fill(mask <= MASKED[mask.dtype] / 2, least)
    return mask.masked_fill(mask.amax(-1, keepdim=True) <= least / 2, 0.0)


def looked_over(mask: Tensor, shape: tuple[int, int, int, int], call: Call | None) -> ScoreMask:
    """A mask, looked over once in a call that is under way.

    Args:
        mask: [B or more, 1 or H, S_q or 1, S_k]; more where it is repeated for each time step.
        shape: sequences B, heads of keys, heads of queries for each, and S_q.
        call: the call, or None.
    """
    if call is None or mask.requires_grad or watching.is_traced(mask):
        return _new(mask, shape)
    known: dict[object, tuple[Tensor, ScoreMask]] = call.notes.setdefault(_NOTES, {})
    key = (id(mask), shape)  # the mask is kept, so that its id stays its own
    if key not in known:
        known[key] = (mask, _new(mask, shape))
        for oldest in list(known)[:-_KEPT]:
            del known[oldest]
    return known[key][1]


def _new(mask: Tensor, shape: tuple[int, int, int, int]) -> ScoreMask:
    batch, heads, groups, queries = shape
    mask = mask[:batch].expand(-1, -1, queries, -1)
    return ScoreMask(mask.unsqueeze(1) if mask.shape[1] == 1 else mask.unflatten(1, (heads, groups)))
