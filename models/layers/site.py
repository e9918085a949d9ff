"""Populations of neurons within layers: where their spikes go, and what the original network does there."""

from dataclasses import dataclass

from las_sj.neurons import WindowNode


@dataclass(frozen=True)
class Synapses:
    """Where the spikes of a population go, and what the original network does there.

    Args:
        operator: name of the operator within the layer; "" for the layer itself.
        fan_out: synaptic operations that a spike causes; None where each window has its own (`FanOut`).
        is_mac: whether each synapse stands for one multiply-accumulate of the ANN (of a product, one operand's do).
        bias: whether a constant current is added to each of the operator's outputs.
    """

    operator: str
    fan_out: int | None
    is_mac: bool = False
    bias: bool = False


@dataclass(frozen=True)
class Dense:
    """Operations on currents at each neuron of a population and each time step, spike or not.

    Args:
        operator: name of the operator within the layer.
        additions, scalings: additions or comparisons, and multiplications by constants, per neuron and time step.
        native: whether the ANN's native operation at this site contains them already.
        share: of the neurons, where not all of them have these operations.
    """

    operator: str
    additions: int = 0
    scalings: int = 0
    native: bool = False
    share: float = 1.0


@dataclass(frozen=True)
class Site:
    """A population of neurons within a layer.

    Args:
        name: attribute of the layer that holds the node.
        node: the neurons.
        feeds: what their spikes go into: "weights", "product" (SAA or Hadamard) or "neuron".
        synapses: the same in detail, one entry for each operator.
        dense: operations on the currents that come in.
        native: the ANN's operation on the value that each neuron takes ("norm", "softmax", a function), once a site.
        upper_bound: largest magnitude that can occur, where it is known beforehand.
        computes: name of the operator within the layer that `native` is, where it is not the one that spikes go into.
        channels: C of potentials [B, ..., C], where thresholds may be one per channel; None where they may not.
    """

    name: str
    node: WindowNode
    feeds: str
    synapses: tuple[Synapses, ...] = ()
    dense: tuple[Dense, ...] = ()
    native: str = ""
    upper_bound: float | None = None
    computes: str = ""
    channels: int | None = None

    @property
    def fan_out(self) -> int:
        """Synapses per neuron where they feed weights, else 0."""
        return sum(synapses.fan_out or 0 for synapses in self.synapses) if self.feeds == "weights" else 0
