"""Quantised activations of a network that was trained with them, as populations of binary spikes."""

from collections.abc import Iterator

from torch import Tensor, nn

from las_sj.models.layers.site import Site, Synapses
from las_sj.models.layers.spiking_forms import spiking_form_of
from las_sj.models.layers.spiking_layer import SpikingLayer
from las_sj.models.neuron_factory import NeuronFactory
from las_sj.neurons.precision import HALF
from las_sj.neurons.rate_coded import QCFSQuantizer, QCFSWindowNode


@spiking_form_of(QCFSQuantizer)
class SpikingQuantiser(SpikingLayer):
    """A `QCFSQuantizer` as one population of neurons that emit it, [T·B, ..., C] to [T·B, ..., C].

    The threshold is the population's, under the name `node.theta`.

    Attributes:
        node: the neurons.
        fed: name of the linear layer that takes its spikes as they are; "" where others code them anew, such as the
            gate of a gated block.
        consumer: synapses of each neuron there.
    """

    levels: int
    clip_first: bool
    node: QCFSWindowNode
    fed: str
    consumer: Synapses

    def equip(self, factory: NeuronFactory) -> None:
        theta = self._parameters.pop("theta")
        assert theta is not None
        self.node = QCFSWindowNode(theta.detach(), self.levels, factory.code.time_steps, self.clip_first)
        if theta.dtype not in HALF:
            self.node.theta = theta
        self.feed("", Synapses("", 1))

    def feed(self, name: str, consumer: Synapses) -> None:
        """Say where the spikes go: to the linear layer `name`, or to no layer that takes them as they are."""
        self.__dict__["fed"], self.__dict__["consumer"] = name, consumer

    @property
    def theta(self) -> nn.Parameter:
        """The threshold."""
        return self.node.theta

    def sites(self) -> Iterator[Site]:
        yield Site("node", self.node, "weights" if self.fed else "neuron", (self.consumer,))

    def forward(self, input: Tensor) -> Tensor:
        return self.fire(self.node, input)
