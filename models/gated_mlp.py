"""Gated feed-forward blocks (Llama and its relatives): the product of gate and up is one of two currents."""

from collections.abc import Iterator

from torch import Tensor, nn

from las_sj.models.linear import synapses_of
from las_sj.models.products import spiking_product
from las_sj.models.spiking_layer import NeuronFactory, Site, SpikingLayer, Synapses
from las_sj.neurons import WindowNode

PARTS = ("gate_proj", "up_proj", "down_proj", "act_fn")


class SpikingGatedMLP(SpikingLayer):
    """OAT → (W_gate → HG → OAT) ∘ (W_up → OAT) → OAT → W_down, currents [T·B, S, C] to [T·B, S, C].

    gate_proj and up_proj share the neurons of the input; down_proj has its own.
    """

    gate_proj: nn.Module
    up_proj: nn.Module
    down_proj: nn.Module
    act_fn: nn.Module
    input_node: WindowNode
    gate_node: WindowNode
    up_node: WindowNode

    def equip(self, factory: NeuronFactory) -> None:
        self.input_node = factory.coder()
        self.gate_node = factory.coder()
        self.up_node = factory.coder()

    def sites(self) -> Iterator[Site]:
        projections = tuple(synapses_of(getattr(self, name), name) for name in ("gate_proj", "up_proj"))
        yield Site("input_node", self.input_node, "weights", projections)
        yield Site("gate_node", self.gate_node, "product", (Synapses("product", 1, is_mac=True),))
        yield Site("up_node", self.up_node, "product", (Synapses("product", 1),))

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.fire(self.input_node, x)
        gate = self.fire(self.gate_node, self.act_fn(self.gate_proj(spikes)))
        up = self.fire(self.up_node, self.up_proj(spikes))
        if self.execution.temporal:
            split = self.execution.split_time
            product = self.execution.merge_time(spiking_product(split(gate), split(up)))
        else:
            product = gate * up
        return self.down_proj(product)
