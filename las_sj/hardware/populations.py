"""What a converted model asks of a chip for one token: layers of weights, and populations of neurons."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from las_sj.analysis import Audit, SpikeMonitor
from las_sj.data.batches import Batch, is_of_text, shortened
from las_sj.hardware.columns import columns_of
from las_sj.hardware.fan_outs import FanOuts
from las_sj.hardware.placement import Layer, Population
from las_sj.hardware.windows import rows_of, windows_seen
from las_sj.models import Site, execution_of, named_sites, running
from las_sj.models.operations.populations import CHILD
from las_sj.neurons import WindowNode, WindowRecord
from las_sj.neurons.gated import Gated

NUMBERS_OF_A_LINE = 4  # of a sub-neuron: where its range begins, its width, amplitude and bias
KEPT = ("scores", "values")  # operators whose second operand is kept for later tokens


@dataclass(frozen=True)
class Size:
    """What one token needs of a site.

    Attributes:
        neurons: how many, in a call of a single sequence.
        fan_out: synaptic events of a spike that comes to no weights.
        parts: into how many equal ones they fall, such as heads.
    """

    neurons: float
    fan_out: float
    parts: int


@torch.no_grad()
def sizes_of(model: PreTrainedModel, batch: Batch) -> dict[str, Size]:
    """What one token needs of each site that a call of a single sequence reaches, by name."""
    neurons: dict[str, int] = {}
    rows: dict[str, int] = {}
    parts: dict[str, int] = {}

    def seen(name: str, node: WindowNode, record: WindowRecord) -> None:
        shape = record.potential.shape
        neurons[name] = neurons.get(name, 0) + shape.numel()
        rows[name] = max(rows.get(name, 0), rows_of(shape))
        parts[name] = parts.get(name, 0) + math.prod(shape[1:-2])

    with (
        running(model, execution_of(model).counted_in),
        SpikeMonitor(model, sample=1) as monitor,
        windows_seen(monitor, seen),
    ):
        model(**shortened(batch, 1 << 30))
    fan_outs = FanOuts().of_call(monitor)
    return {
        name: Size(count / rows[name], fan_outs.get(name, 1.0), max(parts[name], 1))
        for name, count in neurons.items()
        if count
    }


def needs_of(
    model: PreTrainedModel,
    batch: Batch,
    found: Audit | None = None,
    context: int | None = None,
    state_bits: int = 24,
) -> tuple[list[Layer], list[Population]]:
    """Layers and populations of a converted model, in its order.

    Where spikes come to weights, each site has rows, and each operator that it feeds columns. Populations of attention
    grow with the context: they are measured at two lengths and extended along the line between them.

    Args:
        model: a converted model.
        batch: what it is called with; its first sequence is.
        found: audit of the model, which tells what each population's output comes to; None: it stays on its core.
        context: L, tokens that attention reaches back to; None: as many as the first sequence has.
        state_bits: of a membrane potential, a kept key or value, or a number of a table.
    """
    sizes = sizes_of(model, batch)
    length = batch["input_ids"].shape[1] if is_of_text(batch) else 1
    context = context or length
    if is_of_text(batch) and length > 1 and context != length:
        half = max(1, length // 2)
        shorter = sizes_of(model, shortened(batch, half))
        for name, size in sizes.items():
            before = shorter.get(name, size)
            longer = (context - length) / (length - half)
            sizes[name] = Size(
                size.neurons + longer * (size.neurons - before.neurons),
                max(1.0, size.fan_out + longer * (size.fan_out - before.fan_out)),
                size.parts,
            )
    layers: dict[str, Layer] = {}
    populations = []
    for name, site in named_sites(model):
        if name not in sizes:
            continue
        count = max(1, round(sizes[name].neurons))
        fed = [*layers_fed(model, name, site, count)] if site.feeds == "weights" else []
        layers |= {layer.name: layer for layer in fed}
        neurons = fed[0].rows if fed and _is_shared(site) else count
        table = site.node.stored_lines * NUMBERS_OF_A_LINE * state_bits if isinstance(site.node, Gated) else 0
        kept = context * state_bits if _is_kept(site) else 0
        names = tuple(layer.name for layer in fed)
        size = sizes[name]
        populations.append(Population(name, neurons, names, table, kept, fan_out=size.fan_out, parts=size.parts))
    known = populations if found is None else connected(model, batch, populations, layers, found)
    return [*layers.values()], known


def connected(
    model: PreTrainedModel, batch: Batch, populations: list[Population], layers: Mapping[str, Layer], found: Audit
) -> list[Population]:
    """Populations with what they fire at and what drives them.

    Args:
        model: a converted model.
        batch: what it is called with.
        populations: in the order of the model.
        layers: by name.
        found: audit of the model; what it knows of others than these is left out.
    """
    order = {population.name: number for number, population in enumerate(populations)}
    placed = {name.partition(f".{CHILD}.")[0]: name for name in layers}  # by module
    targets: dict[str, tuple[str, ...]] = {}
    drivers: dict[str, tuple[str, ...]] = {}
    alone: dict[str, str] = {}  # modules of the layers, by the populations that one alone drives
    for name in order:
        targets[name] = tuple(sorted(found.flow.get(name, frozenset()) & order.keys(), key=order.__getitem__))
        driving = found.drivers.get(name, frozenset())
        drivers[name] = tuple(layer for module, layer in placed.items() if module in driving)
        if len(driving) == len(drivers[name]) == 1:
            alone[name] = next(iter(driving))
    columns = columns_of(model, batch, alone)
    return [
        replace(
            population,
            targets=() if population.layers else targets[population.name],
            drivers=drivers[population.name],
            columns=columns.get(population.name, ()),
        )
        for population in populations
    ]


def layers_fed(model: nn.Module, name: str, site: Site, rows: int) -> Iterator[Layer]:
    """The layers that the spikes of a site come to through weights; none of what nobody knows the size of.

    Args:
        model: a converted model.
        name: of the site.
        site: feeds weights.
        rows: its neurons for one token.
    """
    owner = name.rpartition(".")[0]
    for synapses in site.synapses:
        label = ".".join(part for part in (owner, synapses.operator) if part)
        if synapses.fan_out is not None:
            yield Layer(label, rows, synapses.fan_out)
            continue
        module = model.get_submodule(owner.removesuffix(f".{CHILD}"))  # of operations, the layer that they are of
        weight = weight_of(module)
        if weight is not None:
            # Of one place of a convolution, or of a layer whose operations tell each window's synapses.
            yield Layer(label, *(weight.shape if is_transposed(module) else (weight[0].numel(), len(weight))))


def _is_shared(site: Site) -> bool:
    """Whether weights are those of each place of a convolution, which take their turn as tokens do."""
    return any(synapses.fan_out is None for synapses in site.synapses)


def _is_kept(site: Site) -> bool:
    """Whether later tokens need what these neurons code: keys and values."""
    return any(each.operator in KEPT and not each.is_mac for each in site.synapses)


def weights_of(model: nn.Module) -> list[Layer]:
    """Layers of any model, converted or not, on whatever device: each matrix of weights, [F, C] or of a convolution.

    Embeddings are left out: tokens look them up.
    """
    layers = []
    for name, module in model.named_modules():
        weight = weight_of(module)
        if weight is not None:
            rows, columns = weight.shape if is_transposed(module) else (weight[0].numel(), len(weight))
            layers.append(Layer(name, rows, columns))
    return layers


def weight_of(module: nn.Module) -> Tensor | None:
    """The matrix of weights of a layer; None of what has none, and of embeddings."""
    weight = getattr(module, "weight", None)
    is_matrix = isinstance(weight, Tensor) and weight.dim() >= 2 and not isinstance(module, nn.Embedding)
    return weight if is_matrix else None


def is_transposed(module: nn.Module) -> bool:
    """Whether a layer keeps its matrix as [C, F]."""
    return isinstance(module, Conv1D)
