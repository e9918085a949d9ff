"""RoBERTa. The non-linearities of its heads are functions that modelling code calls, not modules."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from las_sj.models.families.bert import refuse_decoder
from las_sj.models.layers.site import Site, Synapses
from las_sj.models.layers.spiking_layer import SpikingLayer
from las_sj.models.neuron_factory import NeuronFactory
from las_sj.models.registry import Family, register_family
from las_sj.neurons import HGNode


class HeadWithActivation(SpikingLayer):
    """A head [T·B, ..., C] to [T·B, ..., C_out] with HG neurons after its first layer."""

    function: str
    dense: nn.Module
    node: HGNode

    def equip(self, factory: NeuronFactory) -> None:
        self.node = factory.non_linearity(self.function)

    def sites(self) -> Iterator[Site]:
        yield Site("node", self.node, "neuron", (Synapses("activation", 1),), native=self.function)

    def activated(self, x: Tensor) -> Tensor:
        """The activation of the first layer's output."""
        return self.fire(self.node, self.dense(x))


class ClassificationHead(HeadWithActivation):
    """Linear, tanh, linear, of the first token: [T·B, S, C] to classes."""

    function = "tanh"
    dropout: nn.Module
    out_proj: nn.Module

    def forward(self, features: Tensor, **kwargs: Any) -> Tensor:
        return self.out_proj(self.dropout(self.activated(self.dropout(features[:, 0, :]))))  # type: ignore[no-any-return]


class LanguageHead(HeadWithActivation):
    """Linear, gelu, norm, linear: [T·B, S, C] to the vocabulary."""

    function = "gelu"
    layer_norm: nn.Module
    decoder: nn.Module

    def forward(self, features: Tensor, **kwargs: Any) -> Tensor:
        return self.decoder(self.layer_norm(self.activated(features)))  # type: ignore[no-any-return]


ROBERTA = register_family(
    Family(
        model_types=("roberta",),
        attention={"RobertaSelfAttention": ("query", "key", "value")},
        readouts=("classifier", "classifier.out_proj", "qa_outputs"),
        activated={"RobertaLayer": ("intermediate.intermediate_act_fn", "output.dense")},
        layers={"RobertaClassificationHead": ClassificationHead, "RobertaLMHead": LanguageHead},
        unsupported=refuse_decoder,
    )
)
