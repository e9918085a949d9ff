"""Softmax in spike form: running maximum, HG exponentials, a linear sum, HG reciprocals and a spike product."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from las_sj.models.layers.pairs import LazyScores
from las_sj.models.layers.products import spiking_product, subtract_running_max
from las_sj.models.layers.score_mask import HiddenPairs
from las_sj.models.layers.site import Dense, Site, Synapses
from las_sj.models.layers.spiking_layer import SpikingLayer
from las_sj.models.neuron_factory import NeuronFactory
from las_sj.neurons import HGNode, WindowNode, fused

Mask = Tensor | HiddenPairs | None


class SpikingSoftmax(SpikingLayer):
    """The populations that turn scores into probabilities, [T·B, H_kv, G, S_q, S_k] both.

    Source: LAS, arXiv 2505.09659, spike-equivalent components.

    Scores may be soft-capped first (`softcap`: c·tanh(score/c), Gemma 2).
    """

    softcap: float | None = None
    cap_node: HGNode

    def equip(self, factory: NeuronFactory) -> None:
        self.exp_node: HGNode = factory.non_linearity("exp")
        self.weight_node: WindowNode = factory.coder()
        self.reciprocal_node: HGNode = factory.non_linearity("reciprocal")
        self.scale_node: WindowNode = factory.coder()
        self.probability_node: WindowNode = factory.coder()
        if self.softcap is not None:
            self.cap_node = factory.non_linearity("tanh")

    def sites(self) -> Iterator[Site]:
        term = Synapses("softmax", 1)
        maximum = (Dense("softmax", additions=2, native=True),)
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

    @property
    def softmax_nodes(self) -> tuple[HGNode, WindowNode, HGNode, WindowNode, WindowNode]:
        """Neurons of exponentials, weights, reciprocals, scale and probabilities."""
        return self.exp_node, self.weight_node, self.reciprocal_node, self.scale_node, self.probability_node

    def probabilities(
        self, scores: Tensor, mask: Mask, scoring: LazyScores, channels: int, dtype: torch.dtype | None = None
    ) -> Tensor:
        """softmax(scores + mask), coded.

        Args:
            scores: accumulated, [B, H_kv, G, S_q, S_k].
            mask: additive, broadcastable to them; or pairs that are hidden; or None.
            scoring: which scores take part.
            channels: of a value, which each probability is multiplied with.
            dtype: what they are needed in; what is returned may have that of the scores.
        """
        if self.softcap is not None:
            scores = self.fire(self.cap_node, scores / self.softcap, scoring.each) * self.softcap
        if isinstance(mask, HiddenPairs):
            scores, mask = mask.hide(scores, 1), None
        coded = fused.softmax(self.softmax_nodes, scores.unsqueeze(0), mask, as_train=False, dtype=dtype)
        if coded is not None:
            return coded
        scores = scores if mask is None else scores + mask
        scores = scores - scores.amax(-1, keepdim=True)
        weights = self.fire(self.weight_node, self.fire(self.exp_node, scores, scoring.each), scoring.each)
        scale = self.fire(self.reciprocal_node, weights.sum(-1, keepdim=True), scoring.queries)
        scale = self.fire(self.scale_node, scale, scoring.per_query)
        return self.fire(self.probability_node, weights * scale, partial(scoring.each, channels))

    def probability_trains(self, scores: Tensor, mask: Mask, scoring: LazyScores, channels: int) -> Tensor:
        """softmax(scores + mask) as trains.

        Args:
            scores: currents [T, B, H_kv, G, S_q, S_k].
            mask: additive, broadcastable to them without T; or pairs that are hidden; or None.
            scoring: which scores take part.
            channels: of a value, which each probability is multiplied with.
        """
        if self.softcap is not None:
            scores = self.emit(self.cap_node, scores / self.softcap, scoring.each) * self.softcap
        if isinstance(mask, HiddenPairs):
            scores, mask = mask.hide(scores, self.execution.time_steps), None
        coded = fused.softmax(self.softmax_nodes, scores, mask, as_train=True)
        if coded is not None:
            return coded
        scores = scores if mask is None else scores + self.per_step(mask)
        exponentials = self.emit(self.exp_node, subtract_running_max(scores), scoring.each)
        weights = self.emit(self.weight_node, exponentials, scoring.each)
        scale = self.emit(self.reciprocal_node, weights.sum(-1, keepdim=True), scoring.queries)
        scale = self.emit(self.scale_node, scale, scoring.per_query)
        return self.emit(self.probability_node, spiking_product(weights, scale), partial(scoring.each, channels))
