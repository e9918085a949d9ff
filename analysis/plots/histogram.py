"""Histograms of the membrane potentials that sites receive, with the thresholds that calibration gave them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import nn

from las_sj.analysis.labels import NORMAL, SMALL, label_sites, layer_spans, legend_above, row_height, wrap
from las_sj.analysis.plots.picture import Picture
from las_sj.analysis.plots.raster import MAX_PANELS
from las_sj.analysis.spikes.windows import WITH_THRESHOLDS, choose_sites, of_reached, recorders, threshold_nodes
from las_sj.models import Execution, execution_of
from las_sj.neurons import ThresholdNode, WindowNode, WindowRecord
from las_sj.neurons.rate_coded import RateCodedNode
from las_sj.neurons.thresholds import BINS, BINS_PER_OCTAVE, magnitude_histogram

Array = np.ndarray[Any, Any]

_STARTS = (0, 6, 13, 22)  # bins that quarters of an octave begin with
_LEAST_OCTAVES = 16  # below the smallest threshold
_EXPONENT_BIAS = 127
_BAR, _REST = "#7FB2DD", "#B0B0B0"
_LINES = ("#D55E00", "#7A0177")  # the smallest threshold, the next


class _Magnitudes:
    """Streams the magnitudes of what one site receives, padding excluded; constant in memory.

    Attributes:
        histogram: as `magnitude_histogram` returns, int64 [BINS].
        count: how many values.
        thresholds: by name, fp32 [] or [C].
        beyond: how many values lie beyond each threshold.
    """

    def __init__(self, site: str, node: ThresholdNode | RateCodedNode, execution: Execution) -> None:
        self.site = site
        self.execution = execution
        self.histogram = torch.zeros(BINS, dtype=torch.int64)
        self.count = 0
        self.thresholds = {name: p.detach() for name, p in node.named_parameters() if name.startswith("theta")}
        self.beyond = dict.fromkeys(self.thresholds, 0)

    def __call__(self, node: WindowNode | RateCodedNode, record: WindowRecord) -> None:
        v, thresholds = record.potential, self.thresholds
        mask = self.execution.mask_of(v)
        if record.scale is not None:  # of rate codes, which have no negative values
            v, thresholds = v.clamp(min=0), {"theta": record.scale.expand(v.shape)}
        if mask is not None:
            v = v[mask]
            thresholds = {name: t if t.dim() < 2 else t[mask] for name, t in thresholds.items()}
        try:
            self.histogram += magnitude_histogram(v)
        except ValueError as error:
            raise ValueError(f"{error} at {self.site}: check the model's weights and the batch") from None
        self.count += v.numel()
        for name, threshold in thresholds.items():
            self.beyond[name] += int((v.abs() > threshold.to(v.dtype)).sum())

    def share_beyond(self, threshold: str) -> float:
        return self.beyond[threshold] / self.count

    @property
    def lowest_shown(self) -> float:
        """The potentials from which a bar is drawn: 16 octaves below the smallest threshold."""
        return min(float(theta.min()) for theta in self.thresholds.values()) * 2.0**-_LEAST_OCTAVES


@torch.no_grad()
def plot_activation_histogram(model: nn.Module, batch: Mapping[str, Any], sites: Sequence[str] | None = None) -> Figure:
    """Run a call, in the execution that is set, and draw how the membrane potentials of some sites are distributed.

    Args:
        model: a converted model.
        batch: the call's keyword arguments; its padding is left out where neurons belong to one token each.
        sites: names of coding nodes; "all"; a spread of those that feed weights if None.

    Returns:
        The figure, in the units of the layers' activations: for each site a histogram of |v| (both signs pooled, bars
        of a quarter of an octave, logarithmic counts) with its thresholds and the share of values beyond each; with
        more than 12 sites one row each in a map, and those shares beside it. Of rate codes, v is the mean current, and
        0 where it is negative.

    Raises:
        ValueError: the model is not converted, a site does not exist or is not reached, or a potential is infinite or
            NaN.
    """
    execution = execution_of(model)
    nodes = threshold_nodes(model, choose_sites(model, sites, WITH_THRESHOLDS))
    seen = {name: _Magnitudes(name, node, execution) for name, node in nodes.items()}
    with recorders(model, seen):
        model(**batch)
    named = sites is not None and sites != "all"
    seen = of_reached({name: magnitudes if magnitudes.count else None for name, magnitudes in seen.items()}, named)
    return _draw_panels(seen) if len(seen) <= MAX_PANELS else _draw_map(seen)


def _edges() -> Array:
    """The magnitudes at which the bars begin."""
    octave, bar = np.divmod(np.arange(BINS // BINS_PER_OCTAVE * len(_STARTS)), len(_STARTS))
    return np.exp2(octave - _EXPONENT_BIAS) * (1 + np.array(_STARTS)[bar] / BINS_PER_OCTAVE)


def _bars(magnitudes: _Magnitudes) -> Array:
    """Counts by quarters of an octave."""
    starts = np.add.outer(np.arange(0, BINS, BINS_PER_OCTAVE), _STARTS).ravel()
    return np.add.reduceat(magnitudes.histogram.numpy(), starts)


def _shown_bars(seen: Sequence[_Magnitudes]) -> tuple[int, int]:
    """From the first bar at the lowest potential shown to the last that is occupied or holds a threshold."""
    lowest = min(magnitudes.lowest_shown for magnitudes in seen)
    highest = max(float(theta.max()) for magnitudes in seen for theta in magnitudes.thresholds.values())
    occupied = max(np.flatnonzero(_bars(magnitudes)).max() for magnitudes in seen)
    first, at_highest = np.searchsorted(_edges(), (lowest, highest))
    return int(first), max(int(occupied), int(at_highest))


def _colours(seen: Sequence[_Magnitudes]) -> dict[str, str]:
    """A colour for each kind of threshold."""
    names = dict.fromkeys(name for magnitudes in seen for name in magnitudes.thresholds)
    return dict(zip(names, _LINES, strict=False))


def _symbol(threshold: str) -> str:
    _, _, kind = threshold.partition("_")
    return rf"$\theta_\mathrm{{{kind}}}$" if kind else r"$\theta$"


def _draw_panels(seen: dict[str, _Magnitudes]) -> Figure:
    columns = min(4, len(seen))
    rows = -(-len(seen) // columns)
    figure = Picture(figsize=(3.5 * columns, 2.7 * rows + 0.7), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    colours = _colours(list(seen.values()))
    for axis, (name, magnitudes) in zip(axes, seen.items(), strict=False):
        _draw_site(axis, magnitudes, colours)
        shares = ", ".join(f"{_symbol(t)} {100 * magnitudes.share_beyond(t):.2f} %" for t in magnitudes.thresholds)
        axis.set_title(f"{wrap(name, 40)}\nbeyond {shares}", fontsize=NORMAL)
    for axis in axes[len(seen) :]:
        axis.set_axis_off()
    lines = [Line2D([], [], color=colour, linestyle="--", label=_symbol(name)) for name, colour in colours.items()]
    bars = [Patch(color=_BAR, label="|v|"), Patch(color=_REST, label="smaller, or 0")]
    figure.legend(handles=[*bars, *lines], loc="outside lower center", ncols=4, frameon=False, fontsize=NORMAL)
    figure.suptitle("Membrane potentials |v| and thresholds, by site", fontsize=11)
    return figure


def _draw_site(axis: Axes, magnitudes: _Magnitudes, colours: dict[str, str]) -> None:
    counts = _bars(magnitudes)
    first, last = _shown_bars([magnitudes])
    edges = _edges()[first : last + 2]
    axis.stairs(counts[first : last + 1], edges, fill=True, color=_BAR)
    rest = counts[:first].sum()
    axis.stairs([rest], [edges[0] / 2, edges[0]], fill=True, color=_REST)
    for name, theta in magnitudes.thresholds.items():
        if float(theta.max()) > float(theta.min()):  # one for each channel
            axis.axvspan(float(theta.min()), float(theta.max()), color=colours[name], alpha=0.25, linewidth=0)
        axis.axvline(float(theta.max()), color=colours[name], linestyle="--", linewidth=1.2)
    axis.set(xscale="log", yscale="log", xlim=(edges[0] / 2, edges[-1] * 1.2))
    axis.set_ylim(0.7, 2 * max(counts[first:].max(), rest))
    axis.set_xlabel("|membrane potential|", fontsize=NORMAL)
    axis.set_ylabel("values", fontsize=NORMAL)
    axis.tick_params(labelsize=SMALL)


def _draw_map(seen: dict[str, _Magnitudes]) -> Figure:
    """One row per site: the share of its values in each bar, its thresholds, and beside them the shares beyond them."""
    sites, colours = list(seen), _colours(list(seen.values()))
    height = row_height(len(sites), 0.22)
    figure = Picture(figsize=(10, height * len(sites) + 1.9), layout="constrained")
    heights, widths = (0.13, height * len(sites)), (3, 1)
    (scale, corner), (axis, beside) = figure.subplots(2, 2, height_ratios=heights, width_ratios=widths)
    corner.set_axis_off()
    mesh = _fill_map(axis, list(seen.values()))
    bar = figure.colorbar(mesh, cax=scale, orientation="horizontal", ticklocation="top")
    bar.set_label("share of the site's values", fontsize=NORMAL)
    for name, colour in colours.items():
        _draw_thresholds(axis, beside, list(seen.values()), name, colour)
    for span in layer_spans(sites)[1:]:
        axis.axhline(span.first, color="0.4", linewidth=0.6)
        beside.axhline(span.first, color="0.4", linewidth=0.6)
    label_sites(axis, sites, height, right=beside)
    beside.set_ylim(axis.get_ylim())
    beside.set_yticks([])
    axis.set_xlabel("|membrane potential|, 0 left out", fontsize=NORMAL)
    beside.set_xlabel("values beyond (%)", fontsize=NORMAL)
    lines = [Line2D([], [], color=c, marker="o", markersize=3, label=_symbol(name)) for name, c in colours.items()]
    legend_above(beside, lines)
    for part in (axis, beside, scale):
        part.tick_params(axis="x", labelsize=SMALL)
    figure.suptitle("Membrane potentials and thresholds, by site", fontsize=11)
    return figure


def _fill_map(axis: Axes, seen: Sequence[_Magnitudes]) -> QuadMesh:
    first, last = _shown_bars(seen)
    edges = _edges()[first : last + 2]
    shares = np.stack([_bars(magnitudes)[first : last + 1] / magnitudes.count for magnitudes in seen])
    norm = LogNorm(shares.min(where=shares > 0, initial=1), 1)
    axis.set_xscale("log")
    return axis.pcolormesh(edges, np.arange(len(seen) + 1), np.ma.masked_equal(shares, 0), cmap="Blues", norm=norm)


def _draw_thresholds(axis: Axes, beside: Axes, seen: Sequence[_Magnitudes], threshold: str, colour: str) -> None:
    """One kind of threshold: a mark in each row of the map (its largest value, where channels have their own), and the
    share of values beyond it in the axis beside the map; none where there are none.
    """
    rows = [row for row, magnitudes in enumerate(seen) if threshold in magnitudes.thresholds]
    thetas = [float(seen[row].thresholds[threshold].max()) for row in rows]
    axis.vlines(thetas, rows, [row + 1 for row in rows], color=colour, linewidth=1.5)
    beside.set_xscale("log")
    beyond = [(100 * seen[row].share_beyond(threshold), row + 0.5) for row in rows if seen[row].beyond[threshold]]
    if beyond:
        beside.plot(*zip(*beyond, strict=True), "o", color=colour, markersize=2.5)
