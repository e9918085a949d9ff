"""Gated feed-forward blocks (Llama and its relatives): the product of gate and up is one of two currents."""

from collections.abc import Iterator

from torch import Tensor, nn

from las_sj.models.layers.activation import SpikingActivation
from las_sj.models.layers.linear import synapses_of
from las_sj.models.layers.products import spiking_product
from las_sj.models.layers.site import Site, Synapses
from las_sj.models.layers.spiking_forms import spiking_form_of
from las_sj.models.layers.spiking_layer import SpikingLayer
from las_sj.models.neuron_factory import NeuronFactory
from las_sj.neurons import WindowNode, fused, watching
from las_sj.neurons.precision import single

PARTS = ("gate_proj", "up_proj", "down_proj", "act_fn")


class GatedProduct(SpikingLayer):
    """The part that gated blocks share: the spike product of gate and up, [T·B, S, C] each, each coded first.

    Attributes:
        activation: name of the module between them.
        codes_gate: whether the output of the activation must be coded, which a `CodedActivation` has done.
    """

    activation: str = "act_fn"
    codes_gate: bool = True
    gate_node: WindowNode
    up_node: WindowNode

    def equip(self, factory: NeuronFactory) -> None:
        if self.codes_gate:
            self.gate_node = factory.coder()
        self.up_node = factory.coder()

    def sites(self) -> Iterator[Site]:
        if self.codes_gate:
            yield Site("gate_node", self.gate_node, "product", (Synapses("product", 1, is_mac=True),))
        yield Site("up_node", self.up_node, "product", (Synapses("product", 1),))

    def product(self, activation: nn.Module, gate: Tensor, up: Tensor) -> Tensor:
        """Currents, or accumulated values, of activation(gate) ∘ up."""
        dtype = up.dtype
        if self.codes_gate and isinstance(activation, SpikingActivation) and not watching.is_wrapped(activation):
            nodes = (activation.node, self.gate_node, self.up_node)
            gates, ups = self.window(gate), self.window(up)
            live = self.execution.live_of(gates.shape[1:])
            y = fused.gated_product(nodes, gates, ups, as_train=self.execution.temporal, live=live)
            if y is not None:
                return self.close_window(y)
        wide = single(gate) if isinstance(activation, SpikingActivation) else gate  # as kernels have it
        gate, up = single(activation(wide)), self.fire(self.up_node, single(up))
        gate = self.fire(self.gate_node, gate) if self.codes_gate else gate
        if not self.execution.temporal:
            return (gate * up).to(dtype)
        split = self.execution.split_time
        return self.execution.merge_time(spiking_product(split(gate), split(up))).to(dtype)


def is_gated_mlp(module: nn.Module) -> bool:
    """Whether a module has the parts of a gated feed-forward block."""
    return all(hasattr(module, part) for part in PARTS)


@spiking_form_of(nn.Module, when=is_gated_mlp)
class SpikingGatedMLP(GatedProduct):
    """OAT → (W_gate → HG → OAT) ∘ (W_up → OAT) → OAT → W_down, currents [T·B, S, C] to [T·B, S, C].

    gate_proj and up_proj share the neurons of the input; down_proj has its own.
    """

    gate_proj: nn.Module
    up_proj: nn.Module
    down_proj: nn.Module
    act_fn: nn.Module
    input_node: WindowNode

    def equip(self, factory: NeuronFactory) -> None:
        self.input_node = factory.coder()
        super().equip(factory)

    def sites(self) -> Iterator[Site]:
        projections = tuple(synapses_of(getattr(self, name), name) for name in ("gate_proj", "up_proj"))
        yield Site("input_node", self.input_node, "weights", projections)
        yield from super().sites()

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.fire(self.input_node, x)
        return self.down_proj(self.product(self.act_fn, self.gate_proj(spikes), self.up_proj(spikes)))
