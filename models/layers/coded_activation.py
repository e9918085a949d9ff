"""Activation functions by neurons that emit spikes of a code, so that a product or a layer takes them as they are."""

from collections.abc import Iterator

from las_sj.models.layers.activation import SpikingActivation, hg_function
from las_sj.models.layers.site import Site, Synapses
from las_sj.models.neuron_factory import NeuronFactory
from las_sj.neurons import CodingHGNode


class CodedActivation(SpikingActivation):
    """An activation module as one population that computes and codes, [T·B, ...] to spikes [T·B, ...].

    Attributes:
        node: the neurons.
        fed: name of the linear layer that takes its spikes; "" for the product of a gated block.
        consumer: synapses of each neuron there.
    """

    node: CodingHGNode  # type: ignore[assignment]
    fed: str = ""
    consumer: Synapses = Synapses("product", 1, is_mac=True)

    def equip(self, factory: NeuronFactory) -> None:
        function = hg_function(self)
        assert function is not None
        self.node = factory.coded(function)

    def feed(self, name: str, consumer: Synapses) -> None:
        """Say that the spikes go to the linear layer `name`."""
        self.__dict__["fed"], self.__dict__["consumer"] = name, consumer

    def sites(self) -> Iterator[Site]:
        feeds, native = "weights" if self.fed else "product", self.node.function.name
        yield Site("node", self.node, feeds, (self.consumer,), native=native, computes="activation")
