"""Spike rasters: which neurons of a site fire at which time step."""

from typing import Any

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from transformers import PreTrainedModel

from las_sj.models import named_sites, parts_of
from las_sj.neurons import HGNode, WindowNode

SHOWN_NEURONS = 48  # per site
SHOWN_SITES = 8


def _thin(items: list[Any], count: int) -> list[Any]:
    """`count` of `items`, evenly spread."""
    return [items[index * len(items) // count] for index in range(count)] if len(items) > count else items


class _TrainSample:
    """Keeps the train of the last token of the first sequence, for the first neurons: [T, neurons]."""

    def __init__(self) -> None:
        self.train: Tensor | None = None
        self.outliers: Tensor | None = None

    def __call__(self, node: WindowNode, v: Tensor, emitted: Tensor) -> None:
        if self.train is None:
            self.train = emitted[:, 0].reshape(emitted.shape[0], -1, emitted.shape[-1])[:, -1, :SHOWN_NEURONS].cpu()
            outliers = getattr(node, "outliers", None)
            if outliers is not None:
                self.outliers = outliers(v)[0].reshape(-1, v.shape[-1])[-1, :SHOWN_NEURONS].cpu()


@torch.no_grad()
def plot_raster(model: PreTrainedModel, batch: dict[str, Any], sites: list[str] | None = None) -> Figure:
    """Run a temporal call and draw the spikes of some sites for the last token of the first sequence.

    Args:
        model: a converted model, in the temporal execution.
        batch: the call's keyword arguments.
        sites: names of nodes; a spread of those that feed weights if None.

    Returns:
        The figure: one panel per site, neurons against time steps; negative spikes and those of outlier
        sub-neurons in their own colours.

    Raises:
        ValueError: the model is not in the temporal execution, or a site does not exist.
    """
    if parts_of(model).step_mode != "m":
        raise ValueError('spike trains exist in the temporal execution: call las_sj.set_execution(model, "temporal")')
    available = dict(named_sites(model))
    if sites is None:
        sites = _thin([name for name, site in available.items() if site.feeds == "weights"], SHOWN_SITES)
    missing = [name for name in sites if name not in available or isinstance(available[name].node, HGNode)]
    if not sites:
        raise ValueError("no site to draw")
    if missing:
        raise ValueError(f"no coding neurons of that name: {', '.join(missing)}")
    samples = {name: _TrainSample() for name in sites}
    for name, sample in samples.items():
        available[name].node.recorder = sample
    try:
        model(**batch)
    finally:
        for name in samples:
            available[name].node.recorder = None
    return _draw(samples, parts_of(model).time_steps)


def _draw(samples: dict[str, _TrainSample], time_steps: int) -> Figure:
    columns = min(4, len(samples))
    rows = -(-len(samples) // columns)
    with matplotlib.rc_context({"font.size": 8, "axes.titlesize": 7}):
        figure = Figure(figsize=(3.2 * columns, 2.6 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).flatten()
        for axis, (name, sample) in zip(axes, samples.items(), strict=False):
            _draw_site(axis, name, sample, time_steps)
        for axis in axes[len(samples) :]:
            axis.set_axis_off()
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        figure.suptitle("Spikes of the last token, by site")
    return figure


def _draw_site(axis: Axes, name: str, sample: _TrainSample, time_steps: int) -> None:
    assert sample.train is not None
    train = sample.train  # [T, neurons]
    is_outlier = torch.zeros_like(train[0], dtype=torch.bool) if sample.outliers is None else sample.outliers
    for label, colour, chosen in (
        ("positive", "#1f77b4", (train > 0) & ~is_outlier),
        ("negative", "#d62728", (train < 0) & ~is_outlier),
        ("outlier, positive", "#17becf", (train > 0) & is_outlier),
        ("outlier, negative", "#ff7f0e", (train < 0) & is_outlier),
    ):
        step, neuron = torch.nonzero(chosen, as_tuple=True)
        axis.scatter(step + 1, neuron, s=7, marker="|", linewidths=1.4, color=colour, label=label)
    axis.set(xlim=(0.3, time_steps + 0.7), ylim=(-1, train.shape[1]), xlabel="time step", ylabel="neuron")
    axis.set_title("\n".join(name.rsplit(".", 2)) if len(name) > 40 else name)
