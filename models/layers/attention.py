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
from transformers.masking_utils import sdpa_mask

from las_sj.models.dropout import kept
from las_sj.models.layers.cache import CacheWrite, catch_write, pending, take_pending
from las_sj.models.layers.linear import synapses_of
from las_sj.models.layers.pairs import LazyPairs, LazyScores, Pairs, live_pairs
from las_sj.models.layers.products import matmul, spiking_matmul
from las_sj.models.layers.score_mask import MASKED, HiddenPairs, as_added, looked_over
from las_sj.models.layers.site import Dense, Site, Synapses
from las_sj.models.layers.softmax import SpikingSoftmax
from las_sj.models.layers.spiking_layer import SpikingLayer
from las_sj.models.layers.tiles import Operands, Past, joined, tiles_of
from las_sj.models.neuron_factory import NeuronFactory
from las_sj.neurons import WindowNode, watching
from las_sj.neurons.precision import at_least_single

NAME = "las_sj"
ANALOG = "las_analog"  # mark of attention modules that stay analog


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
        if not self.execution.temporal:
            return self._attend(Operands(query, key, value), mask, pairs, dropout)
        query, key, value = (self.execution.split_time(x) for x in (query, key, value))
        return self.execution.merge_time(self._attend(Operands(query, key, value, past), mask, pairs, dropout))

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
        least = 0.0 if mask is None or mask.dtype == torch.bool else MASKED[mask.dtype] / 2
        live = live_pairs(mask, token_mask, (queries, keys), least)
        return Pairs(live, query[1] // key[1], queries, keys)

    def _attend(self, operands: Operands, mask: Tensor | None, pairs: LazyPairs, dropout: float) -> Tensor:
        """Attend tile by tile, so that scores do not stand in memory whole: [..., B, H_kv, G, S_q, D]."""
        heads = operands.shape[1]
        looked = None if mask is None else looked_over(mask, operands.shape[:4], self.execution.call)
        drop = kept(operands.query.new_empty(operands.shape), dropout) if dropout else None
        tiles, dtype = tiles_of(operands, looked), at_least_single(operands.query.dtype)
        if len(tiles) < 2:
            whole = None if looked is None else looked.whole(dtype)
            return self._attend_tile(operands, whole, pairs.of_scores(heads), drop)
        outputs = []
        for tile in tiles:
            hidden = None if looked is None else looked.part(tile.batch, tile.heads, tile.block, dtype)
            dropped = None if drop is None else tile.of_scores(drop)
            outputs.append(self._attend_tile(operands.of(tile), hidden, pairs.of_scores(heads, tile), dropped))
        return joined(outputs, tiles, operands.shape)

    def _attend_tile(
        self, operands: Operands, mask: Tensor | HiddenPairs | None, scoring: LazyScores, drop: Tensor | None
    ) -> Tensor:
        """Attend for some heads and queries.

        Args:
            operands: their part of the operands.
            mask: what hides some of their scores.
            scoring: which scores take part.
            drop: factors of the probabilities; or None.
        """
        query, key, value, past = operands.query, operands.key, operands.value, operands.past
        groups = query.shape[-3]
        if operands.shape[-1] == 0:  # the mask hides all
            return query.new_zeros((*query.shape[:-1], value.shape[-1]))
        scores = self._scores(query.flatten(-3, -2), key, past).unflatten(-2, (groups, -1))
        if self.execution.temporal:
            probabilities = self.probability_trains(scores, mask, scoring, query.shape[-1])
        else:
            probabilities = self.probabilities(scores, mask, scoring, query.shape[-1], value.dtype)
        probabilities = probabilities.to(value.dtype)
        probabilities = (probabilities if drop is None else probabilities * drop).flatten(-3, -2)
        return self._outputs(probabilities, value, past).to(value.dtype).unflatten(-2, (groups, -1))

    def _scores(self, query: Tensor, key: Tensor, past: Past) -> Tensor:
        """[..., B, H_kv, G·S_q, D] and [..., B, H_kv, S_k, D] to [..., B, H_kv, G·S_q, S_past + S_k]."""
        if not self.execution.temporal:
            return matmul(query, key.transpose(-1, -2))
        scores = spiking_matmul(query, key.transpose(-1, -2))
        return scores if past is None else torch.cat([_matmul_in_time(query, past[0].transpose(-1, -2)), scores], -1)

    def _outputs(self, probabilities: Tensor, value: Tensor, past: Past) -> Tensor:
        """[..., B, H_kv, G·S_q, S_past + S_k] and [..., B, H_kv, S_k, D] to [..., B, H_kv, G·S_q, D]."""
        if not self.execution.temporal:
            return torch.matmul(probabilities, value)
        if past is None:
            return spiking_matmul(probabilities, value)
        first = past[1].shape[-2]
        output = spiking_matmul(probabilities[..., first:], value)
        output += _matmul_in_time(probabilities[..., :first], past[1])
        return output

    @property
    def _is_recorded(self) -> bool:
        nodes = (self.query_node, self.key_node, self.value_node, *self.coding_nodes)
        return any(node.recorder is not None for node in nodes)


def _matmul_in_time(train: Tensor, weights: Tensor) -> Tensor:
    """Trains [T, ..., M, K] times what a cache holds, [..., K, L]; [T, ..., M, L], in single precision at least."""
    return matmul(train, weights.expand(len(train), *weights.shape))


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
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        attention_mask = as_added(attention_mask, query.dtype)
    native = vars(sys.modules[type(module).__module__])["eager_attention_forward"]  # the ANN's own
    return native(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs)


def visible_pairs(*args: Any, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor | None:
    """transformers' mask interface: bool [B, 1, S_q, S_k], True where a pair takes part; None for all.

    Never None for a causal mask: nothing else tells attention of it. Sequences without padding share one mask.
    """
    kwargs["allow_is_causal_skip"] = False
    if attention_mask is not None and attention_mask.is_cpu and not watching.is_traced(attention_mask):
        attention_mask = None if bool(attention_mask.all()) else attention_mask
    kwargs["attention_mask"] = attention_mask
    return sdpa_mask(*args, **kwargs)


AttentionInterface.register(NAME, las_attention_forward)
AttentionMaskInterface.register(NAME, visible_pairs)  # without it, padding would be attended to
