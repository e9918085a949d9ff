"""Membrane potentials: what a neuron holds at each time step, its thresholds, and the spikes that it fires."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from torch import nn

from las_sj.analysis.labels import NORMAL, SMALL
from las_sj.analysis.plots.picture import Picture
from las_sj.analysis.spikes.windows import Window, choose_sites, sample_windows, threshold_nodes
from las_sj.neurons import MultiThresholdCode, ThresholdNode
from las_sj.neurons.rate_coded import RateCodedNode

MAX_NEURONS = 12
Array = np.ndarray[Any, Any]
_POTENTIAL, _THRESHOLD, _POSITIVE, _NEGATIVE = "#333333", "#009E73", "#2A8BD2", "#EE9B00"


def plot_membrane(
    model: nn.Module, batch: Mapping[str, Any], site: str, neurons: Sequence[int] = (0, 1, 2), token: int = -1
) -> Figure:
    """Run a temporal call and draw the membrane potential of some neurons of one site over a window.

    Args:
        model: a converted model, in the temporal execution.
        batch: the call's keyword arguments.
        site: name of a coding node.
        neurons: indices in the last dimension, at most 12.
        token: index of the token of the first sequence; of a site with heads the last head is taken.

    Returns:
        The figure, one panel per neuron: the potential after t steps from t = 0 (the integrated input) to T, the
        thresholds ±θ(t) = ±α·2^-t of its sub-neuron, the potentials at which it stays silent (shaded), and the spikes
        with their level j, amplitude θ(t)(1 + j/n). Potentials are in the units of the layer's activations, on an axis
        that is linear near 0 and logarithmic further out. Of rate codes: the potential after each step, which is what
        is left after a spike, the threshold, and the spikes; on a linear axis.

    Raises:
        ValueError: the model is not in the temporal execution, or the site, a neuron or the token does not exist.
    """
    (name,) = choose_sites(model, [site])
    node = threshold_nodes(model, [name])[name]
    if len(neurons) > MAX_NEURONS:
        raise ValueError(f"neurons must be at most {MAX_NEURONS}, got {len(neurons)}")
    with _storing_potentials(node):
        window = sample_windows(model, batch, [name], neurons, token)[name]
    missing = sorted(set(neurons) - set(window.neurons))
    if missing:
        raise ValueError(
            f"{site} has {window.width} neurons and no neuron {missing[0]}: choose of 0 … {window.width - 1}"
        )
    return _draw(name, node, window)


@contextmanager
def _storing_potentials(node: ThresholdNode | RateCodedNode) -> Iterator[None]:
    """Within this context rate codes store their membrane potentials; others' follow from the train."""
    before = node.store_v_seq, node.v_seq
    if isinstance(node, RateCodedNode):
        node.store_v_seq = True
    try:
        yield
    finally:
        node.store_v_seq, node.v_seq = before


def _draw(site: str, node: ThresholdNode | RateCodedNode, window: Window) -> Figure:
    count = len(window.neurons)
    columns = 1 if count <= 4 else 2 if count <= 8 else 3
    rows = -(-count // columns)
    figure = Picture(figsize=(7.5 if columns == 1 else 6 * columns, 2.4 * rows + 1.1), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).flatten()
    for index, axis in enumerate(axes[:count]):
        if isinstance(node, ThresholdNode):
            _draw_neuron(axis, node, window, index)
        else:
            _draw_rate_code(axis, window, index)
    for axis in axes[count:]:
        axis.set_axis_off()
    for axis in axes[max(count - columns, 0) : count]:
        axis.set_xlabel("time step", fontsize=NORMAL)
        axis.xaxis.set_tick_params(labelbottom=True)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False, fontsize=NORMAL
    )
    figure.suptitle(f"Membrane potential and spikes at {site}", fontsize=11)
    return figure


def _draw_neuron(axis: Axes, node: ThresholdNode, window: Window, index: int) -> None:
    potential, train = window.potential[index].numpy(), window.train[:, index].numpy()
    steps = np.arange(len(train) + 1)
    membrane = np.concatenate([[potential], potential - train.cumsum()])  # [T + 1]
    theta = float(window.alpha[index]) * 2.0 ** -steps[1:]
    silent = theta * _fire_at(node.code)
    axis.stairs(silent, steps, baseline=-silent, fill=True, color="0.9", label="no spike")
    axis.stairs(theta, steps, baseline=None, color=_THRESHOLD, linewidth=1.2, label="thresholds ±θ(t)")
    axis.stairs(-theta, steps, baseline=None, color=_THRESHOLD, linewidth=1.2)
    style: dict[str, Any] = {"color": _POTENTIAL, "linewidth": 1.2, "marker": ".", "markersize": 3}
    axis.step(steps, membrane, where="post", label="membrane potential", **style)
    _mark_spikes(axis, membrane, train, theta, node.code.levels)
    _scale_potential(axis, linear=theta[-1] / 2, largest=max(abs(membrane).max(), theta[0]))
    axis.set_xlim(0, 1.05 * len(train))  # room for the level of the last spike
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.tick_params(axis="x", labelsize=SMALL)
    axis.set_ylabel("membrane potential", fontsize=NORMAL)
    kind = "" if not hasattr(node, "outliers") else f"{'outlier' if window.outliers[index] else 'normal'} sub-neuron, "
    axis.set_title(f"neuron {window.neurons[index]}: {kind}α = {float(window.alpha[index]):.3g}", fontsize=NORMAL)


def _draw_rate_code(axis: Axes, window: Window, index: int) -> None:
    """Steps are counted from 1; the potential at a spike is what it leaves."""
    assert window.trace is not None
    membrane, train = window.trace[:, index].numpy(), window.train[:, index].numpy()
    steps, theta = np.arange(1, len(train) + 1), float(window.alpha[index])
    axis.axhline(theta, color=_THRESHOLD, linewidth=1.2, label="threshold θ")
    axis.axhline(0.0, color="0.8", linewidth=0.8, zorder=0)
    axis.plot(steps, membrane, color=_POTENTIAL, linewidth=1.2, marker=".", label="membrane potential after the step")
    fired = np.flatnonzero(train > 0)
    axis.scatter(fired + 1, membrane[fired], s=28, marker="^", color=_POSITIVE, label="spike", zorder=3)
    axis.set_xlim(0.5, len(train) + 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.tick_params(labelsize=SMALL)
    axis.set_ylabel("membrane potential", fontsize=NORMAL)
    axis.set_title(f"neuron {window.neurons[index]}: θ = {theta:.3g}", fontsize=NORMAL)


def _scale_potential(axis: Axes, linear: float, largest: float) -> None:
    """Linear up to `linear`, logarithmic to beyond `largest`; a few decades of either sign as ticks."""
    axis.set_yscale("symlog", linthresh=linear, linscale=0.5)
    top = largest * max(3.0, (largest / linear) ** 0.15)  # room for the levels of the first spikes
    axis.set_ylim(-top, top)
    lowest, highest = math.ceil(math.log10(2 * linear)), math.floor(math.log10(2 * largest))
    decades = range(highest, lowest - 1, -max(1, math.ceil((highest - lowest + 1) / 4)))
    ticks = {10.0**decade: f"10^{{{decade}}}" for decade in decades} or {largest: f"{largest:.2g}"}
    positions = [0.0, *ticks, *(-tick for tick in ticks)]
    labels = ["0", *(f"${label}$" for label in ticks.values()), *(f"$-{label}$" for label in ticks.values())]
    axis.set_yticks(positions, labels, fontsize=SMALL)
    axis.yaxis.set_minor_locator(NullLocator())


def _fire_at(code: MultiThresholdCode) -> Array:
    """From which potential on a neuron fires at each step, in units of θ(t), [T]."""
    share = np.full(code.time_steps, code.fire_at / code.levels)
    share[-1] = code.fire_at_last / code.levels
    return share


def _mark_spikes(axis: Axes, membrane: Array, train: Array, theta: Array, levels: int) -> None:
    """Mark each spike where the potential stands when it is fired, with its level beside it, away from 0."""
    for sign, label, colour, marker in ((1, "positive spike", _POSITIVE, "^"), (-1, "negative spike", _NEGATIVE, "v")):
        fired = np.flatnonzero(train * sign > 0)
        axis.scatter(fired + 1, membrane[fired], s=28, marker=marker, color=colour, label=label, zorder=3)
        level = np.rint((np.abs(train[fired]) / theta[fired] - 1) * levels).astype(int)
        for step, j in zip(fired, level, strict=True):
            axis.annotate(
                f"j={j}",
                (step + 1, membrane[step]),
                xytext=(3, 3 * sign),
                textcoords="offset points",
                va="bottom" if sign > 0 else "top",
                fontsize=SMALL,
            )
