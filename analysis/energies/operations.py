"""Operations of each operator of a converted model, and of the original, as a monitor counted them."""

import math
from dataclasses import dataclass, field

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from las_sj.analysis.spikes.site_spikes import ReadingSpikes, SiteSpikes
from las_sj.analysis.spikes.spike_monitor import SpikeMonitor
from las_sj.models.lanes import Lanes
from las_sj.models.layers.embedding import SpikingEmbedding
from las_sj.models.layers.linear import FedReadout
from las_sj.models.layers.norm import SpikingRMSNorm
from las_sj.models.layers.site import Site
from las_sj.models.operations.populations import CHILD, Populations
from las_sj.models.rate_coded.activation import RateCodedActivation
from las_sj.neurons import ThresholdNode
from las_sj.neurons.gated import Gated
from las_sj.neurons.rate_coded import RateCodedNode

CORE = "las_attention"
KINDS = (
    "embedding",
    "norm",
    "projection",
    "rope",
    "scores",
    "softmax",
    "values",
    "activation",
    "gate",
    "residual",
    "head",
    "analog",
    "product",
    "dense",
    "constant",
)
# The operators that a count of MACs of the ANN sees.
MAC_KINDS = ("projection", "scores", "values", "product", "head", "analog", "constant")
_PRODUCTS = ("scores", "values", "product", "gate")  # both operands are activations
_WEIGHTED = (nn.Linear, Conv1D, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_ELEMENTWISE = ("mul", "multiply", "__mul__", "__rmul__", "__imul__", "div", "divide", "true_divide", "__truediv__")
_OPERATOR_KINDS = {name: name for name in ("scores", "values", "softmax", "rope", "residual", "activation")}


@dataclass
class Operations:
    """Counts of one operator.

    Attributes:
        name: full name of the operator.
        kind: one of `KINDS`.
        neurons, spikes: of the populations whose spikes go into it.
        macs: multiply-accumulates of the ANN.
        analog_macs: those that the SNN runs too, in parts that stayed analog, and of constants with weights.
        native: values that a native non-linearity of the ANN takes, by its name.
        synaptic_operations: of the SNN: spikes times the synapses that each comes to.
        levelled_operations: the same, a spike of n levels counted ⌈log2(n+1)⌉ times.
        additions, scalings: on currents, of one time step of the SNN.
        ann_additions, ann_scalings: the same operations in the ANN, where its native operation does not contain them.
        states: neurons with a membrane potential.
        biases: of sub-neurons of HG neurons: emitted at step 1, or taken from the membrane where spikes are of a code.
        activations: values that the ANN writes and reads: inputs of matrix products and of native operations.
        lookups: numbers read from an embedding table.
    """

    name: str
    kind: str
    neurons: int = 0
    spikes: int = 0
    macs: int = 0
    analog_macs: int = 0
    native: dict[str, int] = field(default_factory=dict)
    synaptic_operations: int = 0
    levelled_operations: int = 0
    additions: int = 0
    scalings: int = 0
    ann_additions: int = 0
    ann_scalings: int = 0
    states: int = 0
    biases: int = 0
    activations: int = 0
    lookups: int = 0

    @property
    def is_product(self) -> bool:
        """Whether both operands are activations."""
        return self.kind in _PRODUCTS

    @property
    def layer(self) -> str:
        """The block it belongs to: its name up to the last number, or the first part."""
        parts = self.name.removesuffix(".residual").split(".")
        numbers = [index for index, part in enumerate(parts) if part.isdigit()]
        return ".".join(parts[: numbers[-1] + 1] if numbers else parts)


def level_factor(levels: int) -> int:
    """Additions that a spike with n levels takes, each a shift and an add of its payload: ⌈log2(n+1)⌉."""
    return math.ceil(math.log2(levels + 1))


def count_operations(monitor: SpikeMonitor) -> list[Operations]:
    """The operations of all calls that `monitor` saw, by operator, in the order of the model."""
    rows: dict[str, Operations] = {}
    for name, module in monitor.model.named_modules():
        if isinstance(module, SpikingEmbedding):
            lookups = monitor.tokens * module.embedding_dim
            rows[name] = Operations(name, "embedding", lookups=lookups)
    for name, counts in monitor.sites.items():
        _add_site(rows, monitor, name.rpartition(".")[0], counts)
    own = (counts.site for counts in monitor.sites.values())
    operands = {id(site.node) for site in own if any(synapses.is_mac for synapses in site.synapses)}
    for name, readings in monitor.readings.items():
        row = _add_synapses(rows, monitor, name.rpartition(".")[0], readings)
        # What its own operation codes as the operand of a product is read by the ANN once.
        if row is not None and id(readings.site.node) not in operands:
            row.activations += readings.neurons
    for (module, function), dense in monitor.dense.counts.items():
        name, additions, scalings = f"{module}.{function}".lstrip("."), round(dense.additions), round(dense.scalings)
        rows[name] = Operations(name, "dense", additions=additions, scalings=scalings)
        rows[name].ann_additions, rows[name].ann_scalings = additions, scalings
    for (module, function), found in monitor.dense.macs.items():
        name, macs = f"{module}.{function} of constants".lstrip("."), round(found)
        rows[name] = Operations(name, "constant", macs=macs, analog_macs=macs)
    for name, island in monitor.islands.items():
        rows[name] = Operations(name, "analog", macs=island.macs, analog_macs=island.macs)
    return list(rows.values()) if monitor.lanes is None else _with_lanes(rows, monitor, monitor.lanes)


def _with_lanes(rows: dict[str, Operations], monitor: SpikeMonitor, lanes: Lanes) -> list[Operations]:
    """The rows of a network of rate codes, with what it runs on real numbers each time that its input is presented.

    Args:
        rows: of its neurons, whose spikes were counted in the lanes alone.
        monitor: has counted the rest, of all lanes.
        lanes: of its calls.
    """
    for row in rows.values():
        for name in ("synaptic_operations", "levelled_operations", "analog_macs"):
            setattr(row, name, round(getattr(row, name) * lanes.presented / lanes.count))
    for name, counts in monitor.lane_macs.items():
        if name not in rows:  # a layer that spikes come to multiplies nothing
            macs = round(counts.macs / lanes.count)
            rows[name] = Operations(name, _kind_of_module(monitor, name), macs=macs, analog_macs=macs * lanes.presented)
    order = {name: place for place, (name, _) in enumerate(monitor.model.named_modules())}
    return sorted(rows.values(), key=lambda row: order[row.name])


def _kind_of_module(monitor: SpikeMonitor, name: str) -> str:
    model = monitor.model
    module = model.get_submodule(name)
    if not isinstance(module, _WEIGHTED):
        return "product"
    is_head = isinstance(model, PreTrainedModel) and module is model.get_output_embeddings()
    return "head" if is_head else "projection"


def kind_of_synapses(monitor: SpikeMonitor, site_name: str, operator: str, site: Site) -> str:
    """The kind of the operator that spikes go into.

    Args:
        monitor: of the model.
        site_name: of the population, or of what reads its spikes.
        operator: of the synapses.
        site: the population.
    """
    return _kind(monitor, _layer_of_spikes(monitor, site_name.rpartition(".")[0]), operator, site)


def _row(rows: dict[str, Operations], monitor: SpikeMonitor, owner: str, operator: str, site: Site) -> Operations:
    owner = _layer_of_spikes(monitor, owner)
    label = ".".join(part for part in (*owner.split("."), operator) if part and part not in (CORE, CHILD))
    if label not in rows:
        rows[label] = Operations(label, _kind(monitor, owner, operator, site))
    return rows[label]


def _layer_of_spikes(monitor: SpikeMonitor, owner: str) -> str:
    """The layer that a rate-coded activation feeds, instead of the activation; any other owner of neurons."""
    module = monitor.model.get_submodule(owner)
    return module.fed or owner if isinstance(module, RateCodedActivation) else owner


def _kind(monitor: SpikeMonitor, owner: str, operator: str, site: Site) -> str:
    if operator in _OPERATOR_KINDS:
        return _OPERATOR_KINDS[operator]
    module = monitor.model.get_submodule(owner)
    if isinstance(module, Populations):
        return _kind_of_operation(operator.rpartition("_")[0], site)
    if site.feeds == "weights":
        return "head" if isinstance(module, FedReadout) else "projection"
    if isinstance(module, RateCodedActivation):
        return "gate"
    if operator == "product":
        return "gate"
    return "norm" if isinstance(module, SpikingRMSNorm) else "activation"


def _kind_of_operation(function: str, site: Site) -> str:
    """The kind of an operation that was converted by its torch function."""
    if function in ("layer_norm", "rms_norm"):
        return "norm"
    if function == "softmax":
        return "softmax"
    if site.feeds == "neuron":
        return "activation"
    if site.feeds == "weights":
        return "projection"
    return "gate" if function in _ELEMENTWISE else "product"


def _add_site(rows: dict[str, Operations], monitor: SpikeMonitor, owner: str, counts: SiteSpikes) -> None:
    site = counts.site
    first = _add_synapses(rows, monitor, owner, counts)
    if first is not None:
        first.states += counts.neurons
        first.biases += counts.neurons if isinstance(site.node, Gated) else 0
        computed = _row(rows, monitor, owner, site.computes, site) if site.computes else first
        if site.native:
            computed.native[site.native] = computed.native.get(site.native, 0) + counts.neurons
        if site.native or site.synapses[0].is_mac or first.is_product:
            first.activations += counts.neurons
        if site.computes:
            computed.activations += counts.neurons
    for dense in site.dense:
        row = _row(rows, monitor, owner, dense.operator, site)
        neurons = round(counts.neurons * dense.share)
        row.additions += neurons * dense.additions
        row.scalings += neurons * dense.scalings
        if not dense.native:
            row.ann_additions += neurons * dense.additions
            row.ann_scalings += neurons * dense.scalings


def _add_synapses(
    rows: dict[str, Operations], monitor: SpikeMonitor, owner: str, counts: SiteSpikes | ReadingSpikes
) -> Operations | None:
    """Count spikes where they go, and return the row of the first operator."""
    site, first = counts.site, None
    factor = level_factor(site.node.code.levels) if isinstance(site.node, ThresholdNode) else 1
    for synapses in site.synapses:
        row = _row(rows, monitor, owner, synapses.operator, site)
        first = first or row
        fixed = synapses.fan_out is not None
        operations = counts.spikes * (synapses.fan_out or 0) if fixed else counts.synaptic_operations
        row.neurons += counts.neurons
        row.spikes += counts.spikes
        if isinstance(site.node, RateCodedNode) and site.node.theta.dim() > 1:
            row.analog_macs += operations  # weights cannot contain thresholds that differ by position
        else:
            row.synaptic_operations += operations
            row.levelled_operations += operations * factor
        if synapses.is_mac:
            row.macs += counts.neurons * (synapses.fan_out or 0) if fixed else counts.macs
        if synapses.bias:
            row.additions += counts.rows * (synapses.fan_out or 0)
            row.ann_additions += counts.rows * (synapses.fan_out or 0)
    return first
