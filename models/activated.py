"""Which activations of a model code their own output, in the form with fewer stages."""

from collections.abc import Iterator, Mapping

from torch import nn

from las_sj.models.layers.activation import SpikingActivation
from las_sj.models.layers.gated_mlp import GatedProduct
from las_sj.models.layers.linear import SpikingLinear
from las_sj.models.layers.spiking_layer import SpikingLayer
from las_sj.models.registry import Family

Layers = Mapping[str, type[SpikingLayer]]


def activated_layers(model: nn.Module, family: Family, layers: Layers) -> dict[str, str]:
    """The linear layers that take nothing but the output of an activation, by the activation's name.

    Args:
        model: of which modules are named, none of them spiking yet.
        family: of the model.
        layers: what each module becomes. Analog parts, adapters and other layers leave their neighbours as they are.
    """
    found = {}
    for name, module in model.named_modules():
        if type(module).__name__ in family.activated:
            activation, layer = (f"{name}.{part}" for part in family.activated[type(module).__name__])
            if layers.get(activation) is SpikingActivation and layers.get(layer) is SpikingLinear:
                found[activation] = layer
    return found


def gate_activations(layers: Layers) -> Iterator[str]:
    """The names of the activations of gated blocks."""
    for name, layer in layers.items():
        if issubclass(layer, GatedProduct) and layers.get(f"{name}.{layer.activation}") is SpikingActivation:
            yield f"{name}.{layer.activation}"
