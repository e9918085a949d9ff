"""Spike rasters: which neurons of a site fire at which time step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from las_sj.analysis.labels import NORMAL, SMALL, label_sites, layer_spans, legend_above, row_height, wrap
from las_sj.analysis.plots.picture import Picture
from las_sj.analysis.spikes.windows import Window, choose_sites, sample_windows
from las_sj.models import execution_of

SHOWN_NEURONS = 48  # per site
MAX_PANELS = 12  # more sites than that share one axis, as bands
_ROWS = 800  # neurons that all bands together show
_ROW_HEIGHT = 0.03  # inches, of a neuron in a band
_BAND_HEIGHT = 0.105  # inches: the least that a site's name fits in
_STEP_WIDTH = 0.3  # inches


@dataclass(frozen=True)
class _Kind:
    """A kind of spike: colour tells the sign, its darkness outliers."""

    label: str
    sign: int
    outlier: bool
    colour: str

    def of(self, window: Window) -> Tensor:
        """Where its spikes are, bool [T, K]."""
        return (window.train * self.sign > 0) & (window.outliers == self.outlier)


_KINDS = (
    _Kind("positive", 1, False, "#2A8BD2"),
    _Kind("negative", -1, False, "#EE9B00"),
    _Kind("outlier, positive", 1, True, "#001F54"),
    _Kind("outlier, negative", -1, True, "#A30015"),
)


def plot_raster(
    model: nn.Module,
    batch: Mapping[str, Any],
    sites: Sequence[str] | None = None,
    neurons: Sequence[int] | None = None,
) -> Figure:
    """Run a temporal call and draw the spikes of some sites for the last token of the first sequence.

    Args:
        model: a converted model, in the temporal execution.
        batch: the call's keyword arguments.
        sites: names of nodes; "all" for all that code values; a spread of those that feed weights if None.
        neurons: indices in the last dimension; a site shows those of them that it has. The first 48 if None, fewer
            with many sites.

    Returns:
        The figure, neurons against time steps: one panel per site, or one axis with a band per site where there are
        more than 12. Negative spikes and those of outlier sub-neurons have colours of their own.

    Raises:
        ValueError: the model is not in the temporal execution, or a site or neuron does not exist.
    """
    execution = execution_of(model)
    chosen = choose_sites(model, sites)
    in_panels = len(chosen) <= MAX_PANELS
    if neurons is None:
        neurons = range(SHOWN_NEURONS if in_panels else min(max(_ROWS // len(chosen), 2), 16))
    named = sites is not None and sites != "all"
    windows = sample_windows(model, batch, chosen, neurons, required=named)
    return _draw_panels(windows, execution.time_steps) if in_panels else _draw_bands(windows, execution.time_steps)


def _draw_panels(windows: dict[str, Window], time_steps: int) -> Figure:
    columns = min(4, len(windows))
    rows = -(-len(windows) // columns)
    figure = Picture(figsize=(3.3 * columns, 2.6 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, (name, window) in zip(axes, windows.items(), strict=False):
        count = len(window.neurons)
        _draw_spikes(axis, window, torch.arange(count), height=min(110 / count, 5.0), width=2.2)
        shown = range(0, count, -(-count // 6))
        axis.set_yticks(shown, [str(window.neurons[index]) for index in shown], fontsize=SMALL)
        axis.set_ylim(-1, count)
        axis.set_ylabel("neuron", fontsize=NORMAL)
        axis.set_title(wrap(name, 40), fontsize=NORMAL)
        _finish(axis, time_steps)
    for axis in axes[len(windows) :]:
        axis.set_axis_off()
    figure.legend(handles=_legend_marks(), loc="outside lower center", ncols=4, frameon=False, fontsize=NORMAL)
    figure.suptitle("Spikes of the last token, by site", fontsize=11)
    return figure


def _draw_bands(windows: dict[str, Window], time_steps: int) -> Figure:
    """Row i of the axis, y from i to i + 1 downwards, is the band of site i; its neurons share it evenly."""
    most = max(len(window.neurons) for window in windows.values())
    height = row_height(len(windows), max(most * _ROW_HEIGHT, _BAND_HEIGHT))
    width = max(3.6 + time_steps * _STEP_WIDTH, 7.0)  # inches: at least the legend's
    figure = Picture(figsize=(width, len(windows) * height + 1.4), layout="constrained")
    axis = figure.subplots()
    for row, window in enumerate(windows.values()):
        count = len(window.neurons)
        rows = row + (torch.arange(count) + 0.5) / count
        _draw_spikes(axis, window, rows, height=min(62 * height / most, 5.0), width=5.0)
        if row % 2:
            axis.axhspan(row, row + 1, color="0.93", linewidth=0, zorder=0)
    for span in layer_spans(list(windows))[1:]:
        axis.axhline(span.first, color="0.4", linewidth=0.6, zorder=1)
    label_sites(axis, list(windows), height)
    axis.set_ylabel(f"site, up to {most} neurons each", fontsize=NORMAL)
    figure.suptitle("Spikes of the last token, by site", fontsize=11)
    _finish(axis, time_steps)
    legend_above(axis, _legend_marks())
    return figure


def _draw_spikes(axis: Axes, window: Window, rows: Tensor, height: float, width: float) -> None:
    """Mark the spikes of neuron k at y = rows[k] by bars of that height and width, points."""
    for kind in _KINDS:
        step, neuron = torch.nonzero(kind.of(window), as_tuple=True)
        colour, label = kind.colour, kind.label
        axis.scatter(step + 1, rows[neuron], s=height**2, marker="|", linewidths=width, color=colour, label=label)


def _finish(axis: Axes, time_steps: int) -> None:
    axis.set_xlim(0.3, time_steps + 0.7)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.set_xlabel("time step", fontsize=NORMAL)
    axis.tick_params(axis="x", labelsize=SMALL)


def _legend_marks() -> list[Line2D]:
    """Larger than the marks of the spikes."""
    return [
        Line2D([], [], linestyle="", marker="s", markersize=5, color=kind.colour, label=kind.label) for kind in _KINDS
    ]
