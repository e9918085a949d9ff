"""Spike rasters: which neurons of a site fire at which time step."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from torch import Tensor
from transformers import PreTrainedModel

from las_sj.analysis.labels import NORMAL, SMALL, label_sites, layer_spans, legend_above, row_height, thin, wrap
from las_sj.models import named_sites, parts_of
from las_sj.neurons import HGNode, WindowNode
from las_sj.neurons.mt import ThresholdNode

SHOWN_NEURONS = 48  # per site
SHOWN_SITES = 8
MAX_PANELS = 12  # more sites than that share one axis, as bands
_ROWS = 800  # neurons that all bands together show
_ROW_HEIGHT = 0.03  # inches, of a neuron in a band
_BAND_HEIGHT = 0.105  # inches: the least that a site's name fits in
_STEP_WIDTH = 0.3  # inches

Recorder = Callable[[WindowNode, Tensor, Tensor], None]
Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Window:
    """What some neurons of one token did in one window; tensors on the CPU.

    Args:
        neurons: their indices in the last dimension, K of them.
        width: how many neurons that dimension has.
        potential: membrane potential before the first spike, [K].
        train: [T, K].
        outliers: which of them the outlier sub-neuron codes, bool [K].
        alpha: base thresholds of their sub-neurons, [K]; NaN where they have none.
    """

    neurons: list[int]
    width: int
    potential: Tensor
    train: Tensor
    outliers: Tensor
    alpha: Tensor


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


class _Sampler:
    """Keeps the first window of one site: of the first sequence, the last head, the chosen token."""

    def __init__(self, site: str, neurons: Sequence[int], token: int) -> None:
        self.site = site
        self.neurons = neurons
        self.token = token
        self.window: Window | None = None

    def __call__(self, node: WindowNode, v: Tensor, emitted: Tensor) -> None:
        if self.window is not None:
            return
        tokens, width = v.shape[-2] if v.dim() > 2 else 1, v.shape[-1]
        if not -tokens <= self.token < tokens:
            raise ValueError(f"token must lie in {-tokens} … {tokens - 1} for {self.site}, got {self.token}")
        chosen = [neuron for neuron in self.neurons if neuron < width]
        if not chosen:
            raise ValueError(f"{self.site} has {width} neurons: choose one of 0 … {width - 1}, or leave the site out")
        outliers = getattr(node, "outliers", torch.zeros_like)(v[:1]).bool()
        alpha = node.alpha(v[:1]) if isinstance(node, ThresholdNode) else v.new_tensor(torch.nan)
        potential, is_outlier, alpha = (self._row(x, chosen)[0] for x in (v[:1], outliers, alpha.expand_as(v[:1])))
        self.window = Window(chosen, width, potential, self._row(emitted[:, 0], chosen), is_outlier, alpha)

    def _row(self, x: Tensor, neurons: list[int]) -> Tensor:
        """Some neurons of the chosen token, [N, ..., S, C] or [N, C] to [N, K]."""
        x = x if x.dim() > 2 else x.unsqueeze(1)
        return x[..., self.token, :].reshape(len(x), -1, x.shape[-1])[:, -1, neurons].cpu()


def coding_nodes(model: PreTrainedModel) -> dict[str, WindowNode]:
    """The nodes of `model` that code values as spikes, by name; HG neurons, which compute, are not among them."""
    return {name: site.node for name, site in named_sites(model) if not isinstance(site.node, HGNode)}


def choose_sites(model: PreTrainedModel, sites: Sequence[str] | None) -> list[str]:
    """The sites to draw: those named, all ("all"), or a spread of those that feed weights (None).

    Raises:
        ValueError: there is none, or one does not exist.
    """
    available = coding_nodes(model)
    if sites is None:
        sites = thin([name for name, site in named_sites(model) if site.feeds == "weights"], SHOWN_SITES)
    elif sites == "all":
        sites = list(available)
    elif isinstance(sites, str):
        raise ValueError(f'sites must be a list of names, "all" or None, got {sites!r}')
    if not sites:
        raise ValueError('no site to draw: name some of las_sj.models.named_sites(model), or pass "all" or None')
    missing = [name for name in sites if name not in available]
    if missing:
        raise ValueError(
            "sites must be names from las_sj.models.named_sites(model), and not of HG neurons; "
            f"no coding neurons of that name: {', '.join(missing)}"
        )
    return list(dict.fromkeys(sites))


def threshold_nodes(model: PreTrainedModel, sites: Sequence[str]) -> dict[str, ThresholdNode]:
    """The nodes of some coding sites, by name.

    Raises:
        ValueError: one has no thresholds that halve at each step.
    """
    nodes = coding_nodes(model)
    chosen: dict[str, ThresholdNode] = {}
    for site in sites:
        node = nodes[site]
        if not isinstance(node, ThresholdNode):
            raise ValueError(f"{site} is a {type(node).__name__} without base thresholds: leave it out")
        chosen[site] = node
    return chosen


def check_neurons(neurons: Sequence[int]) -> None:
    """Refuse what is not a choice of neurons.

    Raises:
        ValueError: nothing, an index below 0, or one twice.
    """
    if len(neurons) == 0 or min(neurons) < 0 or len(set(neurons)) < len(neurons):
        raise ValueError(f"neurons must be different indices of the last dimension, 0 or more, got {list(neurons)}")


def sample_windows(
    model: PreTrainedModel, batch: Mapping[str, Any], sites: Sequence[str], neurons: Sequence[int], token: int = -1
) -> dict[str, Window]:
    """Run a temporal call and keep one window of each site: of the first sequence, the last head, the chosen token.

    Args:
        model: a converted model, in the temporal execution.
        batch: the call's keyword arguments.
        sites: names of coding neurons.
        neurons: indices in the last dimension; a site gives those of them that it has.
        token: index of the token; sites that have one for each sequence know 0 and −1.

    Raises:
        ValueError: the model is not in the temporal execution, the call does not reach a site, or a site does not have
            the token or any of the neurons.
    """
    if parts_of(model).step_mode != "m":
        raise ValueError('spike trains exist in the temporal execution: call las_sj.set_execution(model, "temporal")')
    check_neurons(neurons)
    samplers = {name: _Sampler(name, neurons, token) for name in sites}
    with recorders(model, samplers), torch.no_grad():
        model(**batch)
    return {name: reached(name, sampler.window) for name, sampler in samplers.items()}


@contextmanager
def recorders(model: PreTrainedModel, by_site: Mapping[str, Recorder]) -> Iterator[None]:
    """Within this context the nodes of some sites have these recorders instead of their own.

    Its end also forgets what attention tells recorders, which is as large as its mask.
    """
    nodes = coding_nodes(model)
    before = {name: nodes[name].recorder for name in by_site}
    try:
        for name, recorder in by_site.items():
            nodes[name].recorder = recorder
        yield
    finally:
        for name, previous in before.items():
            nodes[name].recorder = previous
        for _, site in named_sites(model):
            site.node.tally.live = site.node.tally.synapses = None


def reached(site: str, seen: Seen | None) -> Seen:
    """What a recorder of `site` saw.

    Raises:
        ValueError: nothing.
    """
    if seen is None:
        raise ValueError(f"the call did not reach the neurons of {site}: leave the site out, or give another batch")
    return seen


def plot_raster(
    model: PreTrainedModel,
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
    execution = parts_of(model)
    chosen = choose_sites(model, sites)
    in_panels = len(chosen) <= MAX_PANELS
    if neurons is None:
        neurons = range(SHOWN_NEURONS if in_panels else min(max(_ROWS // len(chosen), 2), 16))
    windows = sample_windows(model, batch, chosen, neurons)
    return _draw_panels(windows, execution.time_steps) if in_panels else _draw_bands(windows, execution.time_steps)


def _draw_panels(windows: dict[str, Window], time_steps: int) -> Figure:
    columns = min(4, len(windows))
    rows = -(-len(windows) // columns)
    figure = Figure(figsize=(3.3 * columns, 2.6 * rows + 0.6), layout="constrained")
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
    figure = Figure(figsize=(width, len(windows) * height + 1.4), layout="constrained")
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
