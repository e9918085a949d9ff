"""Activation functions by HG neurons."""

from collections.abc import Iterator

from torch import Tensor, nn
from transformers import activations

from las_sj.models.layers.site import Site, Synapses
from las_sj.models.layers.spiking_forms import spiking_form_of
from las_sj.models.layers.spiking_layer import SpikingLayer
from las_sj.models.neuron_factory import NeuronFactory
from las_sj.neurons import FUNCTIONS, HGNode

_FUNCTIONS: dict[type[nn.Module], str] = {
    nn.GELU: "gelu",
    nn.Mish: "mish",
    nn.ReLU: "relu",
    nn.Sigmoid: "sigmoid",
    nn.SiLU: "silu",
    nn.Softplus: "softplus",
    nn.Tanh: "tanh",
    activations.GELUActivation: "gelu",
    activations.NewGELUActivation: "gelu_tanh",
    activations.FastGELUActivation: "gelu_tanh",
    activations.AccurateGELUActivation: "gelu_tanh",
    activations.GELUTanh: "gelu_tanh",
    activations.ClippedGELUActivation: "gelu_10",
    activations.MishActivation: "mish",
    activations.QuickGELUActivation: "quick_gelu",
    activations.SiLUActivation: "silu",
}


def hg_function(module: nn.Module) -> str | None:
    """The key in `FUNCTIONS` of an activation module, also of one that is spiking already; else None."""
    for kind in type(module).__mro__:
        if kind in _FUNCTIONS:
            tanh_form = kind is nn.GELU and getattr(module, "approximate", "none") == "tanh"
            if kind is activations.ClippedGELUActivation and (module.min, module.max) != (-10, 10):
                return None
            if kind is nn.Softplus and (module.beta, module.threshold) != (1, 20):
                return None
            return "gelu_tanh" if tanh_form else _FUNCTIONS[kind]
    return None


def is_activation(module: nn.Module) -> bool:
    """Whether the HG function of an activation module is known."""
    return hg_function(module) is not None


def register_activation(kind: type[nn.Module], function: str) -> None:
    """Have modules of a type become HG neurons of a function.

    Args:
        kind: the type of an activation module, [...] to [...] element by element.
        function: its key in `las_sj.neurons.FUNCTIONS`; see `las_sj.neurons.register_function`.

    Raises:
        ValueError: there is no such function.
    """
    if function not in FUNCTIONS:
        raise ValueError(f"function must be one of {', '.join(FUNCTIONS)}, got {function!r}")
    _FUNCTIONS[kind] = function
    spiking_form_of(kind, when=is_activation)(SpikingActivation)


@spiking_form_of(*_FUNCTIONS, when=is_activation)
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
