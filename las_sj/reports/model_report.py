"""Everything that can be said of a converted model by running it on a little data: counts, energy, audit, pictures."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from tqdm import tqdm
from transformers import PreTrainedModel

from las_sj.analysis import (
    Audit,
    EnergyReport,
    Network,
    SpikeMonitor,
    audit,
    describe_network,
    energy_report,
    plot_activation_histogram,
    plot_energy,
    plot_firing_rate,
    plot_hg_fit,
    plot_membrane,
    plot_raster,
)
from las_sj.checkpoint.placement import input_device
from las_sj.data.batches import Batch, shortened, to_device
from las_sj.data.output_folder import REPORT
from las_sj.models import named_sites, set_execution
from las_sj.neurons import HGNode
from las_sj.reports.equal_loss import fewest_bits

AUDIT_TOKENS = 16
PICTURE_TOKENS = 24


@dataclass(frozen=True)
class ModelReport:
    """What was found.

    Attributes:
        folder: of the model.
        source: where the data came from.
        settings: of the conversion.
        conversion: las_report.json of the folder, or {}.
        monitor: counts of the data, in the accumulated execution.
        network: its populations of neurons.
        energy: what they cost.
        audit: every operation of a short temporal call.
    """

    folder: Path
    source: str
    settings: dict[str, Any]
    conversion: dict[str, Any]
    monitor: SpikeMonitor
    network: Network
    energy: EnergyReport
    audit: Audit

    def sites(self) -> list[dict[str, Any]]:
        """Counts of each population."""
        return [
            {
                "site": name,
                "feeds": counts.site.feeds,
                "neurons": counts.neurons,
                "spikes_per_neuron": counts.spikes_per_neuron,
                "firing_rate": counts.trains.firing_rate,
                "levels": counts.trains.levels,
                "silent": counts.trains.silent,
                "saturated": counts.trains.saturated,
                "outlier_share": counts.outlier_share,
                "out_of_range": counts.out_of_range,
            }
            for name, counts in self.monitor.sites.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pictures, for JSON."""
        keys = ("model", "architecture", "quality", "coverage", "temporal_vs_accumulated", "data", "versions")
        return {
            "folder": str(self.folder),
            "data_of_this_report": self.source,
            "settings": self.settings,
            "conversion": {key: self.conversion[key] for key in keys if key in self.conversion},
            "tokens": self.monitor.tokens,
            "samples": self.monitor.samples,
            "spikes_per_neuron": self.monitor.spikes_per_neuron,
            "network": self.network.to_dict(),
            "energy": self.energy.to_dict(),
            "audit": self.audit.to_dict(),
            "sites": self.sites(),
        }


@torch.no_grad()
def examine(
    model: PreTrainedModel,
    batches: Sequence[Batch],
    folder: Path,
    source: str,
    costs: str = "fp32",
    equal_loss: bool = True,
) -> ModelReport:
    """Run a converted model and collect what a report says.

    Args:
        model: the converted model; left in the temporal execution.
        batches: dicts of keyword arguments.
        folder: of the model.
        source: where the batches came from.
        costs: name of a preset of energies.
        equal_loss: whether to look for the bits of an ANN that loses as much; takes several more runs.
    """
    batches = [to_device(batch, input_device(model)) for batch in batches]
    set_execution(model, "accumulated")
    with SpikeMonitor(model) as monitor:
        for batch in tqdm(batches, desc="counting spikes", unit="batch", leave=False):
            model(**batch)
    with tqdm(total=2, desc="comparing with quantised ANNs", leave=False) as progress:
        bits = fewest_bits(model, batches[:1]) if equal_loss else None
        progress.update()
        progress.set_description("auditing")
        found = audit(model, shortened(batches[0], AUDIT_TOKENS))
        progress.update()
    set_execution(model, "temporal")
    settings = model.config.quantization_config.settings.to_dict()
    energy = energy_report(monitor, costs, bits)
    network = describe_network(monitor, found.stages)
    return ModelReport(folder, source, settings, read_conversion(folder), monitor, network, energy, found)


def read_conversion(folder: Path) -> dict[str, Any]:
    """What the conversion wrote about itself; {} where that is not there."""
    try:
        found = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and _is_conversion(found) else {}


def _is_conversion(found: dict[str, Any]) -> bool:
    """Whether the parts that a report reads have the shape that `conversion_report` gives them."""
    try:
        quality, coverage = found["quality"], found["coverage"]
        _ = quality["relative_error"], quality["ann"]["perplexity"], quality["snn"]["perplexity"]
        return isinstance(coverage["spiking"], dict) and isinstance(coverage["analog"], dict)
    except (KeyError, TypeError):
        return False


def figures(report: ModelReport, batch: Batch) -> Iterator[tuple[str, Figure]]:
    """The pictures, each with its caption; made one after the other.

    Args:
        report: as `examine` returns.
        batch: what a temporal call is shown of.
    """
    model = report.monitor.model
    short = shortened(to_device(batch, input_device(model)), PICTURE_TOKENS)
    feeding = [name for name, site in named_sites(model) if site.feeds == "weights"]
    makers: list[tuple[str, Callable[[], Figure]]] = [
        ("Energy by layer, ANN beside SNN (level-aware accounting)", lambda: plot_energy(report.energy.bars())),
        ("Spikes of the last token, at some sites", lambda: plot_raster(model, short)),
        ("Spikes of the last token, at all sites that code values", lambda: plot_raster(model, short, "all")),
        (f"Membrane potential at {feeding[0]}", lambda: plot_membrane(model, short, feeding[0])),
        ("Firing rate by time step", lambda: plot_firing_rate(report.monitor.firing_rates)),
        ("Values that are coded, with both thresholds", lambda: plot_activation_histogram(model, short)),
    ]
    makers += [(f"HG neurons of {node.function.name}", partial(plot_hg_fit, node)) for node in used_functions(model)]
    for caption, make in tqdm(makers, desc="drawing", unit="picture", leave=False):
        yield caption, make()


def used_functions(model: PreTrainedModel) -> list[HGNode]:
    """One node of each function."""
    nodes = {site.node.function.name: site.node for _, site in named_sites(model) if isinstance(site.node, HGNode)}
    return list(nodes.values())
