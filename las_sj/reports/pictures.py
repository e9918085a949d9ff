"""The pictures in the report of a converted model."""

from collections.abc import Callable, Iterator
from functools import partial

from matplotlib.figure import Figure
from torch import nn
from tqdm import tqdm

from las_sj.analysis import (
    plot_activation_histogram,
    plot_energy,
    plot_firing_rate,
    plot_hg_fit,
    plot_membrane,
    plot_raster,
)
from las_sj.analysis.spikes.windows import WITH_THRESHOLDS, choose_sites
from las_sj.checkpoint.placement import input_device
from las_sj.data.batches import Batch, shortened, to_device
from las_sj.models import named_sites
from las_sj.neurons import HGNode
from las_sj.reports.model_report import ModelReport

PICTURE_TOKENS = 24


def figures(report: ModelReport, batch: Batch) -> Iterator[tuple[str, Figure]]:
    """The pictures, each with its caption; made one after the other.

    Args:
        report: as `examine` returns.
        batch: what a temporal call is shown of.
    """
    model = report.monitor.model
    short = shortened(to_device(batch, input_device(model)), PICTURE_TOKENS)
    first = choose_sites(model, None, WITH_THRESHOLDS)[0]
    makers: list[tuple[str, Callable[[], Figure]]] = [
        ("Energy by layer, ANN beside SNN (level-aware accounting)", lambda: plot_energy(report.energy.bars())),
        ("Spikes of the last token, at some sites", lambda: plot_raster(model, short)),
        ("Spikes of the last token, at all sites that code values", lambda: plot_raster(model, short, "all")),
        (f"Membrane potential at {first}", lambda: plot_membrane(model, short, first)),
        ("Firing rate by time step", lambda: plot_firing_rate(report.monitor.firing_rates)),
        ("Values that are coded, with their thresholds", lambda: plot_activation_histogram(model, short)),
    ]
    makers += [(f"HG neurons of {node.function.name}", partial(plot_hg_fit, node)) for node in used_functions(model)]
    makers += [] if report.hardware is None else report.hardware.pictures()
    for caption, make in tqdm(makers, desc="drawing", unit="picture", leave=False):
        yield caption, make()


def used_functions(model: nn.Module) -> list[HGNode]:
    """One node of each function."""
    nodes = {site.node.function.name: site.node for _, site in named_sites(model) if isinstance(site.node, HGNode)}
    return list(nodes.values())
