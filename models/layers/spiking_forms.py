"""Which spiking layer a module becomes, by its type: each layer says what it replaces."""

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from las_sj.models.layers.spiking_layer import SpikingLayer

Layer = TypeVar("Layer", bound=type[SpikingLayer])
Test = Callable[[nn.Module], bool]

_FORMS: dict[type[nn.Module], list[tuple[type[SpikingLayer], Test | None]]] = {}


def spiking_form_of(*kinds: type[nn.Module], when: Test | None = None) -> Callable[[Layer], Layer]:
    """Register the decorated layer as what modules of some types become.

        @spiking_form_of(nn.LayerNorm)
        class SpikingLayerNorm(SpikingLayer): ...

    A module becomes the form of its most specific type, among those of one type the last that was registered. The
    layer is a mixin: it finds the module's own attributes, makes its neurons in `equip` and lists them in `sites`. Its
    `forward` computes what the module computes, with spikes as one operand of every product.

    Args:
        kinds: types of modules; subclasses are included.
        when: tells whether a module of such a type is meant; all are if None.
    """

    def register(layer: Layer) -> Layer:
        for kind in kinds:
            _FORMS.setdefault(kind, []).insert(0, (layer, when))
        return layer

    return register


def spiking_form(module: nn.Module) -> type[SpikingLayer] | None:
    """The spiking layer that a module becomes by its type, or None where none is known."""
    for kind in type(module).__mro__:
        for layer, when in _FORMS.get(kind, ()):
            if when is None or when(module):
                return layer
    return None
