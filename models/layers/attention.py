"""Self-attention in spike form, as an attention implementation of transformers.

Queries, keys and values are coded by OAT neurons; Q·Kᵀ and P·V are products of spike trains (SAA); softmax is a running
maximum, HG exponentials, a linear sum, HG reciprocals and a spike Hadamard product (LAS, arXiv 2505.09659). Keys and
values that a cache holds are coded sums, and act as weights.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from las_sj.models.dropout import kept
from las_sj.models.layers.cache import CacheWrite, catch_write, pending, take_pending
from las_sj.models.layers.linear import synapses_of
from las_sj.models.layers.pairs import LazyPairs, LazyScores, Pairs, live_pairs
from las_sj.models.layers.products import matmul, spiking_matmul
from las_sj.models.layers.site import Dense, Site, Synapses
from las_sj.models.layers.softmax import SpikingSoftmax
from las_sj.models.layers.spiking_layer import SpikingLayer
from las_sj.models.neuron_factory import NeuronFactory
from las_sj.neurons import WindowNode
from las_sj.neurons.precision import at_least_single

NAME = "las_sj"
ANALOG = "las_analog"  # mark of attention modules that stay analog
_MASKED = {torch.float16: -3e4, torch.bfloat16: -1e9, torch.float32: -1e9, torch.float64: -1e9}
Past = tuple[Tensor, Tensor] | None  # keys and values that act as weights
_BLOCK = 1 << 17  # scores of a temporal call handled at a time: bounds memory, and stays in the cache


class SpikingAttentionCore(SpikingSoftmax):
    """softmax(Q·Kᵀ·scaling + mask)·V with spikes as one operand of every product, [T·B, H, S, D] to [T·B, H, S, D].

    The layer around it says whether queries and keys are rotated by their positions (`rotary`: the share of their
    channels) and whether scores are soft-capped, and announces the cache that coded keys and values are written to.
    """

    rotary: float = 0.0

    def equip(self, factory: NeuronFactory) -> None:
        self.query_node: WindowNode = factory.coder()
        self.key_node: WindowNode = factory.coder()
        self.value_node: WindowNode = factory.coder()
        super().equip(factory)

    def sites(self) -> Iterator[Site]:
        rope = (Dense("rope", additions=1, scalings=2, share=self.rotary),) if self.rotary else ()
        scaling = (*rope, Dense("scores", scalings=1))
        score = Synapses("scores", None)
        yield Site("query_node", self.query_node, "product", (replace(score, is_mac=True),), scaling)
        yield Site("key_node", self.key_node, "product", (score,), rope)
        yield Site("value_node", self.value_node, "product", (Synapses("values", None),))
        yield from super().sites()

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, dropout: float = 0.0
    ) -> Tensor:
        """Attend.

        Args:
            query: [T·B, H, S_q, D].
            key, value: [T·B, H_kv, S_k, D], H a multiple of H_kv.
            mask: additive, broadcastable to [B, H, S_q, S_k], or None.
            scaling: factor of the scores.
            dropout: the share of probabilities that are dropped in training, of a window as a whole.

        Returns:
            [T·B, H, S_q, D], currents in a temporal call.
        """
        write = take_pending()
        groups = query.shape[1] // key.shape[1]
        pairs = LazyPairs(lambda: self._pairs(query.shape, key.shape, mask, write))
        new = key.shape[2]
        keys = partial(pairs.of_keys, write, new)
        coded = (
            self.fire(self.query_node, query * scaling, pairs.of_queries),
            self.fire(self.key_node, key, keys),
            self.fire(self.value_node, value, keys),
        )
        return self._attend_coded(coded, groups, mask, pairs, write, dropout).flatten(1, 2)

    def _attend_coded(
        self,
        coded: tuple[Tensor, Tensor, Tensor],
        groups: int,
        mask: Tensor | None,
        pairs: LazyPairs,
        write: CacheWrite | None,
        dropout: float,
    ) -> Tensor:
        """Attend with coded queries [T·B, H, S_q, D], keys and values [T·B, H_kv, S_k, D]; [T·B, H_kv, G, S_q, D]."""
        query, key, value = coded
        query = query.unflatten(1, (-1, groups))
        past = None
        if write is not None:
            if self._is_recorded:
                _ = pairs.found  # which tells new keys from those that the cache holds, as long as it does
            key, value, past = self._store(write, key, value)
        if mask is not None:
            mask = _finite(_additive(mask, at_least_single(query.dtype)))
        if self.execution.temporal:
            return self._attend_in_time(query, key, value, mask, pairs, past, dropout)
        return self._attend(query, key, value, mask, pairs, dropout)

    def _store(self, write: CacheWrite, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Past]:
        """Put coded keys and values into the cache.

        Returns:
            Keys and values for this call: in a temporal call the trains [T·B, H_kv, S_new, D] of those that act as
            spikes, otherwise all of them, [B, H_kv, S_k, D]; and, in a temporal call, the sums that act as weights.
        """
        if not self.execution.temporal:
            keys, values, _ = write.store(key, value)
            return keys, values, None
        sums = (self.execution.split_time(x).sum(0) for x in (key, value))
        keys, values, new = write.store(*sums)
        past = keys.shape[2] - new
        if new == 0:  # a static cache: new keys lie anywhere in it, so all of them act as weights
            key, value = key[:, :, :0], value[:, :, :0]
        return key, value, (keys[:, :, :past], values[:, :, :past]) if past else None

    def _pairs(self, query: torch.Size, key: torch.Size, mask: Tensor | None, write: CacheWrite | None) -> Pairs:
        """Which queries [T·B, H, S_q, D] and keys [T·B, H_kv, S_k, D] meet."""
        queries, new = query[2], key[2]
        keys = new if write is None else write.length(queries)
        if mask is not None:
            keys = mask.shape[-1]
            if self.execution.temporal:
                mask = mask[: query[0] // self.execution.time_steps]
        call = self.execution.call
        token_mask = None if call is None else call.token_mask
        least = 0.0 if mask is None or mask.dtype == torch.bool else _MASKED[mask.dtype] / 2
        live = live_pairs(mask, token_mask, (queries, keys), least)
        return Pairs(live, query[1] // key[1], queries, keys)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, pairs: LazyPairs, dropout: float
    ) -> Tensor:
        groups = query.shape[2]
        scores = matmul(query.flatten(2, 3), key.transpose(-1, -2)).unflatten(2, (groups, -1))
        mask = None if mask is None else _grouped(mask, key.shape[1], groups)
        probabilities = self.probabilities(scores, mask, pairs.of_scores(key.shape[1]), query.shape[-1])
        probabilities = probabilities.to(value.dtype)
        if dropout:
            probabilities = probabilities * kept(probabilities, dropout)
        return torch.matmul(probabilities.flatten(2, 3), value).unflatten(2, (groups, -1))

    @property
    def _is_recorded(self) -> bool:
        nodes = (self.query_node, self.key_node, self.value_node, *self.softmax_nodes)
        return any(node.recorder is not None for node in nodes)

    def _attend_in_time(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        pairs: LazyPairs,
        past: Past,
        dropout: float,
    ) -> Tensor:
        query, key, value = (self.execution.split_time(x) for x in (query, key, value))
        batch, heads, groups, length = query.shape[1:5]
        flat_query, flat_key, flat_value = (x.flatten(1, 2) for x in (query, key, value))  # [T, B·H_kv, ...]
        flat_past = None if past is None else (past[0].flatten(0, 1), past[1].flatten(0, 1))
        keys = key.shape[-2] + (0 if past is None else past[0].shape[-2])
        if mask is not None:
            mask = _grouped(mask[:batch], heads, groups)
            mask = mask.expand(batch, heads, groups, length, -1).flatten(0, 1)
        drop = kept(query.new_empty(batch * heads, groups, length, keys), dropout) if dropout else None
        size = max(1, _BLOCK // max(1, groups * length * keys))
        outputs = []
        for part in (slice(start, start + size) for start in range(0, batch * heads, size)):
            mask_part = None if mask is None else mask[part]
            past_part = None if flat_past is None else (flat_past[0][part], flat_past[1][part])
            spikes = (flat_query[:, part], flat_key[:, part], flat_value[:, part])
            scoring = pairs.of_blocks(batch, heads, part)
            drop_part = None if drop is None else drop[part]
            outputs.append(self._attend_block(spikes, mask_part, past_part, scoring, drop_part))
        output = torch.cat(outputs, 1).unflatten(1, (batch, heads))  # [T, B, H_kv, G, S_q, D]
        return self.execution.merge_time(output)

    def _attend_block(
        self,
        spikes: tuple[Tensor, Tensor, Tensor],
        mask: Tensor | None,
        past: Past,
        scoring: LazyScores,
        drop: Tensor | None,
    ) -> Tensor:
        """Attend for N heads of keys.

        Args:
            spikes: queries [T, N, G, S_q, D], keys and values [T, N, S_k, D].
            mask: [N, G, S_q, S] or None.
            past: keys and values [N, S−S_k, D] that act as weights, or None.
            scoring: which scores take part.
            drop: factors of the probabilities, [N, G, S_q, S]; or None.
        """
        query, key, value = spikes
        groups = query.shape[2]
        flat_query = query.flatten(2, 3)
        scores = spiking_matmul(flat_query, key.transpose(-1, -2))
        if past is not None:
            scores = torch.cat([_matmul_in_time(flat_query, past[0].transpose(-1, -2)), scores], -1)
        scores = scores.unflatten(2, (groups, -1))
        probabilities = self.probability_trains(scores, mask, scoring, query.shape[-1]).to(value.dtype)
        probabilities = (probabilities if drop is None else probabilities * drop).flatten(2, 3)
        if past is None:
            return spiking_matmul(probabilities, value).unflatten(2, (groups, -1)).to(value.dtype)
        first = past[0].shape[-2]
        output = spiking_matmul(probabilities[..., first:], value)
        output += _matmul_in_time(probabilities[..., :first], past[1])
        return output.unflatten(2, (groups, -1)).to(value.dtype)


def _matmul_in_time(train: Tensor, weights: Tensor) -> Tensor:
    """Trains [T, N, M, K] times what a cache holds, [N, K, L]; [T, N, M, L], in single precision at least."""
    return matmul(train, weights.expand(len(train), *weights.shape))


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask, additive or bool, as it is added to scores of a type: finite, whatever its own type can hold."""
    least = _MASKED[dtype]
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, least)
    if mask.dtype == dtype:
        return mask.clamp(min=least)
    return mask.to(dtype).masked_fill(mask <= _MASKED[mask.dtype] / 2, least)


def _finite(mask: Tensor) -> Tensor:
    """A mask without rows that hide everything: nobody reads them, and scores would be lost in the mask's rounding."""
    hidden = mask.amax(-1, keepdim=True) <= _MASKED[mask.dtype] / 2
    return mask.masked_fill(hidden, 0.0)


def _grouped(mask: Tensor, heads: int, groups: int) -> Tensor:
    """[B, 1 or H, S_q, S_k] to [B, 1 or H_kv, 1 or G, S_q, S_k]."""
    return mask.unsqueeze(1) if mask.shape[1] == 1 else mask.unflatten(1, (heads, groups))


class SpikingAttention(SpikingLayer):
    """An attention module of transformers, [T·B, S, C] to [T·B, S, C].

    It holds the core, and codes the input of its projections once.

    `projections` (set from the family) names the linear layers that hidden_states go to, which are `FedLinear`.
    """

    las_attention: SpikingAttentionCore
    projections: tuple[str, ...]
    input_node: WindowNode

    def equip(self, factory: NeuronFactory) -> None:
        self.las_attention = SpikingAttentionCore()
        self.las_attention.__dict__["execution"] = self.execution
        self.las_attention.rotary = _rotary_share(getattr(self, "config", None))
        self.las_attention.softcap = getattr(self, "attn_logit_softcapping", None)
        self.las_attention.equip(factory)
        if self.projections:
            self.input_node = factory.coder()

    def sites(self) -> Iterator[Site]:
        if self.projections:
            projections = tuple(synapses_of(getattr(self, name), name) for name in self.projections)
            yield Site("input_node", self.input_node, "weights", projections)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.projections:
            hidden_states = self.fire(self.input_node, hidden_states)
        args, kwargs, write = catch_write(args, kwargs)
        with pending(write):
            return super().forward(hidden_states, *args, **kwargs)


def _rotary_share(config: Any) -> float:
    """The share of the channels of queries and keys that positions rotate."""
    parameters = getattr(config, "rope_parameters", None)
    return 0.0 if parameters is None else float(parameters.get("partial_rotary_factor", 1.0))


def las_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """transformers' attention interface: [T·B, H, S, D] queries to [T·B, S, H, D].

    Raises:
        RuntimeError: the module belongs to no converted model.
    """
    if isinstance(module, SpikingAttention):
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        output = module.las_attention(query, key, value, attention_mask, scaling, dropout)
        return output.transpose(1, 2).contiguous(), None
    if ANALOG not in module.__dict__:
        raise RuntimeError(
            f"{type(module).__name__} is not spiking: attn_implementation={NAME!r} is for models that las_sj converted"
        )
    native = vars(sys.modules[type(module).__module__])["eager_attention_forward"]  # the ANN's own
    return native(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs)


AttentionInterface.register(NAME, las_attention_forward)
AttentionMaskInterface.register(NAME, eager_mask)  # without it, padding would be attended to
