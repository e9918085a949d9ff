"""Softmax in spike form: running maximum, HG exponentials, a linear sum, HG reciprocals and a spike product."""

from collections.abc import Callable, Iterator
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
from las_sj.neurons import FanOut, HGNode, WindowNode, fused

Mask = Tensor | HiddenPairs | None
Fire = Callable[[WindowNode, Tensor, Callable[[], FanOut]], Tensor]


class SpikingSoftmax(SpikingLayer):
    """The populations that turn scores into probabilities, [T·B, H_kv, G, S_q, S_k] both.

    Source: LAS, arXiv 2505.09659, spike-equivalent components.

    Scores may be soft-capped first (`softcap`: c·tanh(score/c), Gemma 2). In the short form (`is_short`) weights and
    scale are coded where exponentials and reciprocals are computed.
    """

    softcap: float | None = None
    is_short: bool = False
    cap_node: HGNode
    exp_node: HGNode
    weight_node: WindowNode
    reciprocal_node: HGNode
    scale_node: WindowNode
    probability_node: WindowNode

    def equip(self, factory: NeuronFactory) -> None:
        self.is_short = factory.fewer_stages
        if self.is_short:
            self.weight_node = factory.coded("exp")
            self.scale_node = factory.coded("reciprocal")
        else:
            self.exp_node = factory.non_linearity("exp")
            self.weight_node = factory.coder()
            self.reciprocal_node = factory.non_linearity("reciprocal")
            self.scale_node = factory.coder()
        self.probability_node = factory.coder()
        if self.softcap is not None:
            self.cap_node = factory.non_linearity("tanh")

    def sites(self) -> Iterator[Site]:
        term = Synapses("softmax", 1)
        maximum = (Dense("softmax", additions=2, native=True),)
        if self.softcap is not None:
            capping = (Dense("softmax", scalings=2),)
            yield Site("cap_node", self.cap_node, "neuron", (term,), capping, native="tanh")
        # A weight spike goes into the sum of its row and into the product with the row's scale.
        weight = Site("weight_node", self.weight_node, "product", (replace(term, fan_out=2),), upper_bound=1.0)
        if self.is_short:
            yield replace(weight, dense=maximum, native="softmax")
        else:
            yield Site("exp_node", self.exp_node, "neuron", (term,), maximum, native="softmax")
            yield weight
            yield Site("reciprocal_node", self.reciprocal_node, "neuron", (term,))
        yield Site("scale_node", self.scale_node, "product", (replace(term, fan_out=None),), upper_bound=1.0)
        values = (Synapses("values", None, is_mac=True),)
        # Not 1: products of two codes would fall on ties of a grid that is commensurate with theirs.
        yield Site("probability_node", self.probability_node, "product", values, upper_bound=1.001)

    @property
    def softmax_nodes(self) -> tuple[HGNode, WindowNode, HGNode, WindowNode, WindowNode]:
        """Neurons of exponentials, weights, reciprocals, scale and probabilities, where each is a population."""
        return self.exp_node, self.weight_node, self.reciprocal_node, self.scale_node, self.probability_node

    @property
    def coding_nodes(self) -> tuple[WindowNode, ...]:
        """Neurons of weights, scale and probabilities, which both forms have."""
        return self.weight_node, self.scale_node, self.probability_node

    def _in_one_pass(
        self, scores: Tensor, mask: Tensor | None, *, as_train: bool, dtype: torch.dtype | None = None
    ) -> Tensor | None:
        if self.is_short:
            return None
        return fused.softmax(self.softmax_nodes, scores, mask, as_train=as_train, dtype=dtype)

    def _weights(self, through: Fire, scores: Tensor, scoring: LazyScores) -> Tensor:
        """Coded exponentials of scores."""
        values = scores if self.is_short else through(self.exp_node, scores, scoring.each)
        return through(self.weight_node, values, scoring.each)

    def _scale(self, through: Fire, total: Tensor, scoring: LazyScores) -> Tensor:
        """Coded reciprocals of the sums of weights."""
        values = total if self.is_short else through(self.reciprocal_node, total, scoring.queries)
        return through(self.scale_node, values, scoring.per_query)

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
        coded = self._in_one_pass(scores.unsqueeze(0), mask, as_train=False, dtype=dtype)
        if coded is not None:
            return coded
        scores = scores if mask is None else scores + mask
        scores = scores - scores.amax(-1, keepdim=True)
        weights = self._weights(self.fire, scores, scoring)
        scale = self._scale(self.fire, weights.sum(-1, keepdim=True), scoring)
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
        coded = self._in_one_pass(scores, mask, as_train=True)
        if coded is not None:
            return coded
        scores = scores if mask is None else scores + self.per_step(mask)
        weights = self._weights(self.emit, subtract_running_max(scores), scoring)
        scale = self._scale(self.emit, weights.sum(-1, keepdim=True), scoring)
        return self.emit(self.probability_node, spiking_product(weights, scale), partial(scoring.each, channels))
