"""Self-attention in spike form, as an attention implementation of transformers.

Queries, keys and values are coded by OAT neurons; Q·Kᵀ and P·V are products of spike trains (SAA); softmax is a running
maximum, HG exponentials, a linear sum, HG reciprocals and a spike Hadamard product (LAS, arXiv 2505.09659). Keys and
values that a cache holds are coded sums, and act as weights.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from las_sj.models.layers.cache import Arrival, catch_arrivals
from las_sj.models.layers.linear import synapses_of
from las_sj.models.layers.pairs import Pairs, ScorePairs, live_pairs
from las_sj.models.layers.products import spiking_matmul, spiking_product, subtract_running_max
from las_sj.models.layers.spiking_layer import Dense, NeuronFactory, Site, SpikingLayer, Synapses
from las_sj.neurons import HGNode, WindowNode, fused

NAME = "las_sj"
ANALOG = "las_analog"  # mark of attention modules that stay analog
_MASKED = {torch.float16: -3e4, torch.bfloat16: -1e9, torch.float32: -1e9, torch.float64: -1e9}
Past = tuple[Tensor, Tensor] | None  # keys and values that act as weights
_BLOCK = 1 << 17  # scores of a temporal call handled at a time: bounds memory, and stays in the cache


class SpikingAttentionCore(SpikingLayer):
    """softmax(Q·Kᵀ·scaling + mask)·V with spikes as one operand of every product.

    The layer around it says whether queries and keys are rotated by their positions (`rotary`: the share of their
    channels) and whether scores are soft-capped (`softcap`: c·tanh(score/c), Gemma 2), and hands over the cache of a
    call (`arrival`).
    """

    rotary: float = 0.0
    softcap: float | None = None
    arrival: Arrival | None = None
    cap_node: HGNode

    def equip(self, factory: NeuronFactory) -> None:
        self.query_node: WindowNode = factory.coder()
        self.key_node: WindowNode = factory.coder()
        self.value_node: WindowNode = factory.coder()
        self.exp_node: HGNode = factory.non_linearity("exp")
        self.weight_node: WindowNode = factory.coder()
        self.reciprocal_node: HGNode = factory.non_linearity("reciprocal")
        self.scale_node: WindowNode = factory.coder()
        self.probability_node: WindowNode = factory.coder()
        if self.softcap is not None:
            self.cap_node = factory.non_linearity("tanh")

    def sites(self) -> Iterator[Site]:
        rope = (Dense("rope", additions=1, scalings=2, share=self.rotary),) if self.rotary else ()
        scaling = (*rope, Dense("scores", scalings=1))
        score, term = Synapses("scores", None), Synapses("softmax", 1)
        maximum = (Dense("softmax", additions=2, native=True),)
        yield Site("query_node", self.query_node, "product", (replace(score, is_mac=True),), scaling)
        yield Site("key_node", self.key_node, "product", (score,), rope)
        yield Site("value_node", self.value_node, "product", (Synapses("values", None),))
        if self.softcap is not None:
            capping = (Dense("softmax", scalings=2),)
            yield Site("cap_node", self.cap_node, "neuron", (term,), capping, native="tanh")
        yield Site("exp_node", self.exp_node, "neuron", (term,), maximum, native="softmax")
        # A weight spike goes into the sum of its row and into the product with the row's scale.
        yield Site("weight_node", self.weight_node, "product", (replace(term, fan_out=2),), upper_bound=1.0)
        yield Site("reciprocal_node", self.reciprocal_node, "neuron", (term,))
        yield Site("scale_node", self.scale_node, "product", (replace(term, fan_out=None),), upper_bound=1.0)
        values = (Synapses("values", None, is_mac=True),)
        # Not 1: products of two codes would fall on ties of a grid that is commensurate with theirs.
        yield Site("probability_node", self.probability_node, "product", values, upper_bound=1.001)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
        """Attend.

        Args:
            query: [T·B, H, S_q, D].
            key, value: [T·B, H_kv, S_k, D], H a multiple of H_kv.
            mask: additive, broadcastable to [B, H, S_q, S_k], or None.
            scaling: factor of the scores.

        Returns:
            [T·B, H, S_q, D], currents in a temporal call.
        """
        arrival, self.arrival = self.arrival, None
        groups = query.shape[1] // key.shape[1]
        pairs = None
        if self.query_node.recorder is not None:
            pairs = self._tell_partners(query, key, mask, arrival)
        query, key, value = (
            self.fire(node, x)
            for node, x in ((self.query_node, query * scaling), (self.key_node, key), (self.value_node, value))
        )
        query = query.unflatten(1, (-1, groups))  # [T·B, H_kv, G, S_q, D]
        past = None
        if arrival is not None:
            key, value, past = self._store(arrival, key, value)
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, _MASKED[query.dtype])
        if mask is not None:
            mask = _finite(mask.clamp(min=_MASKED[query.dtype]))
        if self.execution.temporal:
            output = self._attend_in_time(query, key, value, mask, pairs, past)
        else:
            output = self._attend(query, key, value, mask, pairs)
        return output.flatten(1, 2)

    def _store(self, arrival: Arrival, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Past]:
        """Put coded keys and values into the cache.

        Returns:
            Keys and values for this call: in a temporal call the trains [T·B, H_kv, S_new, D] of those that act as
            spikes, otherwise all of them, [B, H_kv, S_k, D]; and, in a temporal call, the sums that act as weights.
        """
        if not self.execution.temporal:
            keys, values, _ = arrival.store(key, value)
            return keys, values, None
        sums = (self.execution.split_time(x).sum(0) for x in (key, value))
        keys, values, new = arrival.store(*sums)
        past = keys.shape[2] - new
        if new == 0:  # a static cache: new keys lie anywhere in it, so all of them act as weights
            key, value = key[:, :, :0], value[:, :, :0]
        return key, value, (keys[:, :, :past], values[:, :, :past]) if past else None

    def _tell_partners(self, query: Tensor, key: Tensor, mask: Tensor | None, arrival: Arrival | None) -> ScorePairs:
        """Tell the nodes which of their neurons take part, and with how many others each is multiplied."""
        queries, new = query.shape[2], key.shape[2]
        keys = new if arrival is None else arrival.length(queries)
        if mask is not None:
            keys = mask.shape[-1]
            if self.execution.temporal:
                mask = mask[: len(query) // self.execution.time_steps]
        live = live_pairs(mask, self.execution.token_mask, (queries, keys), _MASKED[query.dtype] / 2)
        pairs = Pairs(live, query.shape[1] // key.shape[1], queries, keys)
        tally = self.query_node.tally
        tally.live, tally.synapses = pairs.of_queries()
        first = 0 if arrival is None else arrival.first_slot(keys, new)
        keys_live, queries_met = pairs.of_keys(first, new)
        for node in (self.key_node, self.value_node):
            node.tally.live, node.tally.synapses = keys_live, queries_met
        self.probability_node.tally.synapses = query.shape[-1]
        return pairs.of_scores(key.shape[1])

    def _tell_score_partners(self, pairs: ScorePairs | None) -> None:
        """The same for the nodes of the softmax."""
        if pairs is None:
            return
        capping = () if self.softcap is None else (self.cap_node,)
        for node in (self.exp_node, self.weight_node, self.probability_node, *capping):
            node.tally.live = pairs.live
        tally = self.scale_node.tally
        tally.live, tally.synapses = pairs.per_query()
        self.reciprocal_node.tally.live = tally.live

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, pairs: ScorePairs | None
    ) -> Tensor:
        groups = query.shape[2]
        self._tell_score_partners(pairs)
        scores = torch.matmul(query.flatten(2, 3), key.transpose(-1, -2)).unflatten(2, (groups, -1))
        if self.softcap is not None:
            scores = self.fire(self.cap_node, scores / self.softcap) * self.softcap
        if mask is not None:
            mask = _grouped(mask, key.shape[1], groups)
        probabilities = fused.softmax(self._softmax_nodes, scores.unsqueeze(0), False, mask)
        if probabilities is None:
            probabilities = self._softmax(scores if mask is None else scores + mask)
        return torch.matmul(probabilities.flatten(2, 3), value).unflatten(2, (groups, -1))

    @property
    def _softmax_nodes(self) -> tuple[HGNode, WindowNode, HGNode, WindowNode, WindowNode]:
        return self.exp_node, self.weight_node, self.reciprocal_node, self.scale_node, self.probability_node

    def _softmax(self, scores: Tensor) -> Tensor:
        """Of accumulated scores [B, H_kv, G, S_q, S_k], population after population."""
        scores = scores - scores.amax(-1, keepdim=True)
        weights = self.fire(self.weight_node, self.fire(self.exp_node, scores))
        scale = self.fire(self.scale_node, self.fire(self.reciprocal_node, weights.sum(-1, keepdim=True)))
        return self.fire(self.probability_node, weights * scale)

    def _softmax_in_time(self, scores: Tensor) -> Tensor:
        """Of trains [T, N, G, S_q, S_k]."""
        weights = self.weight_node(self.exp_node(subtract_running_max(scores)))
        scale = self.scale_node(self.reciprocal_node(weights.sum(-1, keepdim=True)))
        return self.probability_node(spiking_product(weights, scale))

    def _attend_in_time(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        pairs: ScorePairs | None,
        past: Past,
    ) -> Tensor:
        query, key, value = (self.execution.split_time(x) for x in (query, key, value))
        batch, heads, groups, length = query.shape[1:5]
        flat_query, flat_key, flat_value = (x.flatten(1, 2) for x in (query, key, value))  # [T, B·H_kv, ...]
        flat_past = None if past is None else (past[0].flatten(0, 1), past[1].flatten(0, 1))
        keys = key.shape[-2] + (0 if past is None else past[0].shape[-2])
        if mask is not None:
            mask = _grouped(mask[:batch], heads, groups)
            mask = mask.expand(batch, heads, groups, length, -1).flatten(0, 1)
        pairs = None if pairs is None else pairs.blocks(batch, heads)
        size = max(1, _BLOCK // max(1, groups * length * keys))
        outputs = []
        for part in (slice(start, start + size) for start in range(0, batch * heads, size)):
            self._tell_score_partners(None if pairs is None else pairs[part])
            mask_part = None if mask is None else mask[part]
            past_part = None if flat_past is None else (flat_past[0][part], flat_past[1][part])
            block = self._attend_block(
                flat_query[:, part], flat_key[:, part], flat_value[:, part], mask_part, past_part
            )
            outputs.append(block)
        output = torch.cat(outputs, 1).unflatten(1, (batch, heads))  # [T, B, H_kv, G, S_q, D]
        return self.execution.merge_time(output)

    def _attend_block(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, past: Past) -> Tensor:
        """[T, N, G, S_q, D] queries, [T, N, S_k, D] keys and values, [N, G, S_q, S] mask, [N, S−S_k, D] past."""
        groups = query.shape[2]
        flat_query = query.flatten(2, 3)
        scores = spiking_matmul(flat_query, key.transpose(-1, -2))
        if past is not None:
            scores = torch.cat([torch.matmul(flat_query, past[0].transpose(-1, -2)), scores], -1)
        scores = scores.unflatten(2, (groups, -1))
        if self.softcap is not None:
            scores = self.cap_node(scores / self.softcap) * self.softcap
        probabilities = fused.softmax(self._softmax_nodes, scores, True, mask)
        if probabilities is None:
            probabilities = self._softmax_in_time(scores if mask is None else scores + self.per_step(mask))
        probabilities = probabilities.flatten(2, 3)
        if past is None:
            return spiking_matmul(probabilities, value).unflatten(2, (groups, -1))
        first = past[0].shape[-2]
        output = spiking_matmul(probabilities[..., first:], value) + torch.matmul(probabilities[..., :first], past[1])
        return output.unflatten(2, (groups, -1))


def _finite(mask: Tensor) -> Tensor:
    """A mask without rows that hide everything: nobody reads them, and scores would be lost in the mask's rounding."""
    hidden = mask.amax(-1, keepdim=True) <= _MASKED[mask.dtype] / 2
    return mask.masked_fill(hidden, 0.0)


def _grouped(mask: Tensor, heads: int, groups: int) -> Tensor:
    """[B, 1 or H, S_q, S_k] to [B, 1 or H_kv, 1 or G, S_q, S_k]."""
    return mask.unsqueeze(1) if mask.shape[1] == 1 else mask.unflatten(1, (heads, groups))


class SpikingAttention(SpikingLayer):
    """An attention module of transformers: holds the core, and codes the input of its projections once.

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
        args, self.las_attention.arrival = catch_arrivals(args, kwargs)
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
        output = module.las_attention(query, key, value, attention_mask, scaling)
        return output.transpose(1, 2).contiguous(), None
    if ANALOG not in module.__dict__:
        raise RuntimeError(
            f"{type(module).__name__} is not spiking: attn_implementation={NAME!r} is for models that las_sj converted"
        )
    native = vars(sys.modules[type(module).__module__])["eager_attention_forward"]  # the ANN's own
    return native(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs)


AttentionInterface.register(NAME, las_attention_forward)
AttentionMaskInterface.register(NAME, eager_mask)  # without it, padding would be attended to
