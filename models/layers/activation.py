"""Activation functions by HG neurons."""

from collections.abc import Iterator

from torch import Tensor, nn
from transformers import activations

from las_sj.models.layers.spiking_layer import NeuronFactory, Site, SpikingLayer, Synapses
from las_sj.neurons import HGNode

_FUNCTIONS: dict[type[nn.Module], str] = {
    nn.GELU: "gelu",
    nn.ReLU: "relu",
    nn.SiLU: "silu",
    nn.Tanh: "tanh",
    activations.GELUActivation: "gelu",
    activations.NewGELUActivation: "gelu_tanh",
    activations.FastGELUActivation: "gelu_tanh",
    activations.AccurateGELUActivation: "gelu_tanh",
    activations.GELUTanh: "gelu_tanh",
    activations.ClippedGELUActivation: "gelu_10",
    activations.QuickGELUActivation: "quick_gelu",
    activations.SiLUActivation: "silu",
}


def hg_function(module: nn.Module) -> str | None:
    """The key in `FUNCTIONS` of an activation module (also of one that is spiking already), or None."""
    for kind in type(module).__mro__:
        if kind in _FUNCTIONS:
            tanh_form = kind is nn.GELU and getattr(module, "approximate", "none") == "tanh"
            if kind is activations.ClippedGELUActivation and (module.min, module.max) != (-10, 10):
                return None
            return "gelu_tanh" if tanh_form else _FUNCTIONS[kind]
    return None


class SpikingActivation(SpikingLayer):
    """An activation module as one population of HG neurons, [T·B, ...] to [T·B, ...]."""

    node: HGNode

    def equip(self, factory: NeuronFactory) -> None:
        function = hg_function(self)
        assert function is not None
        self.node = factory.non_linearity(function)

    def sites(self) -> Iterator[Site]:
        yield Site("node", self.node, "neuron", (Synapses("", 1),), native=self.node.function.name)

    def forward(self, input: Tensor) -> Tensor:
        return self.fire(self.node, input)
