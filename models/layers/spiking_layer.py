"""The common part of all spiking layers, and how a module becomes one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn
from transformers import PretrainedConfig

from las_sj.models.execution import Execution
from las_sj.neurons import HGNode, MTNode, MultiThresholdCode, OATNode, WindowNode

Constant = TypeVar("Constant", Tensor, float)


@dataclass(frozen=True)
class NeuronFactory:
    """Makes the neurons of a network, all with the same settings; thresholds are set by calibration.

    Args:
        code: time steps, levels, rounding and spike limit.
        hg_tolerance: error that HG neurons are fitted to.
        outlier_aware: OAT neurons; otherwise one MT neuron each (the paper's ablation).
    """

    code: MultiThresholdCode
    hg_tolerance: float = 1e-5
    outlier_aware: bool = True

    def coder(self) -> OATNode | MTNode:
        """A neuron that codes values as spikes, thresholds 1."""
        code = (self.code.time_steps, self.code.levels, self.code.rounding, self.code.max_spikes)
        return OATNode(1.0, 1.0, *code) if self.outlier_aware else MTNode(1.0, *code)

    def non_linearity(self, function: str) -> HGNode:
        """An HG neuron."""
        return HGNode(function, self.code.time_steps, tolerance=self.hg_tolerance)


@dataclass(frozen=True)
class Synapses:
    """Where the spikes of a population go, and what the original network does there.

    Args:
        operator: name of the operator within the layer; "" for the layer itself.
        fan_out: synaptic operations that a spike causes; None where each window has its own (`node.tally`).
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
    """

    name: str
    node: WindowNode
    feeds: str
    synapses: tuple[Synapses, ...] = ()
    dense: tuple[Dense, ...] = ()
    native: str = ""
    upper_bound: float | None = None

    @property
    def fan_out(self) -> int:
        """Synapses per neuron where they feed weights, else 0."""
        return sum(synapses.fan_out or 0 for synapses in self.synapses) if self.feeds == "weights" else 0


class SpikingLayer(nn.Module):
    """Mixin of every spiking layer. `equip` is called once, on a module that has become one."""

    execution: Execution
    prefix: str = "Spiking"  # of the name of the class that a module gets
    absorbs: bool = False  # whether it also does what modelling code does to the original module's output
    hidden_options: tuple[str, ...] = ()  # of the model's config: None during calls, because the layer does their work

    def configure(self, config: PretrainedConfig) -> None:
        """Take from the model's config what the layer needs; called before `equip`."""

    def equip(self, factory: NeuronFactory) -> None:
        """Create the layer's neurons."""

    def sites(self) -> Iterator[Site]:
        """The populations of neurons that belong to this layer and not to a layer inside it."""
        return iter(())

    def fire(self, node: WindowNode, x: Tensor) -> Tensor:
        """Pass currents [T·B, ...], or accumulated values [B, ...] outside a temporal call, through neurons."""
        if self.execution.temporal:
            return self.execution.merge_time(node(self.execution.split_time(x)))
        if node.step_mode == "m":
            return node(x.unsqueeze(0)).sum(0)
        return node(x)

    def window(self, x: Tensor) -> Tensor:
        """Currents [T·B, ...] as [T, B, ...]; accumulated values [B, ...] as a window of one step, [1, B, ...]."""
        return self.execution.split_time(x) if self.execution.temporal else x.unsqueeze(0)

    def close_window(self, y: Tensor) -> Tensor:
        """Trains [T, B, ...] as [T·B, ...]; sums as they are."""
        return self.execution.merge_time(y) if self.execution.temporal else y

    def per_step(self, constant: Constant) -> Constant:
        """A constant as a current: its share of one time step in a temporal call."""
        return constant / self.execution.time_steps if self.execution.temporal else constant


_CLASSES: dict[tuple[type, type], type] = {}


def _spiking_class(mixin: type[SpikingLayer], original: type[nn.Module]) -> type[nn.Module]:
    """One class for each pair, so that modules of one type stay of one type."""
    if (mixin, original) not in _CLASSES:
        _CLASSES[mixin, original] = type(
            f"{mixin.prefix}{original.__name__}", (mixin, original), {"__module__": original.__module__}
        )
    return _CLASSES[mixin, original]


def become(
    module: nn.Module,
    mixin: type[SpikingLayer],
    factory: NeuronFactory,
    execution: Execution,
    config: PretrainedConfig,
) -> None:
    """Turn `module` in place into a spiking layer of the same type, parameters and name.

    Args:
        module: the module.
        mixin: what it becomes.
        factory: makes its neurons.
        execution: shared by all layers of the model.
        config: of the model.
    """
    module.__class__ = _spiking_class(mixin, type(module))
    assert isinstance(module, SpikingLayer)
    module.__dict__["execution"] = execution  # shared by all layers, so not a submodule of each
    if "_old_forward" in module.__dict__:  # accelerate calls what it found when it was told to offload the module
        module.__dict__["_old_forward"] = type(module).forward.__get__(module)
    module.configure(config)
    module.equip(factory)
    module.train(module.training)
