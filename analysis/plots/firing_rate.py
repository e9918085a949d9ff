"""Firing rates: how many of a site's neurons fire at each time step."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from las_sj.analysis.labels import NORMAL, SMALL, label_sites, layer_spans, row_height
from las_sj.analysis.plots.picture import Picture

_STEP_WIDTH = 0.3  # inches


def plot_firing_rate(rates: Mapping[str, Sequence[float]]) -> Figure:
    """Draw a map of firing rates, sites (rows, in the given order, with their layers) against time steps.

    Args:
        rates: for each site its firing rate at each of T time steps, in spikes per neuron and time step.

    Returns:
        The figure.

    Raises:
        ValueError: there is no site or no time step, sites differ in T, or a rate is negative, infinite or NaN.
    """
    sites = list(rates)
    time_steps = _check(rates)
    height = row_height(len(sites), 0.25)
    width = max(3.6 + time_steps * _STEP_WIDTH, 6.0)  # inches
    figure = Picture(figsize=(width, height * len(sites) + 1.6), layout="constrained")
    scale, axis = figure.subplots(2, 1, height_ratios=(0.13, height * len(sites)))
    values = np.array([list(rates[site]) for site in sites], dtype=float)
    edges = np.arange(time_steps + 1) + 0.5
    mesh = axis.pcolormesh(edges, np.arange(len(sites) + 1), values, cmap="cividis", vmin=0, vmax=values.max() or 1)
    for span in layer_spans(sites)[1:]:
        axis.axhline(span.first, color="white", linewidth=1.2)
    label_sites(axis, sites, height)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.set_xlabel("time step", fontsize=NORMAL)
    bar = figure.colorbar(mesh, cax=scale, orientation="horizontal", ticklocation="top")
    bar.set_label("spikes per neuron and time step", fontsize=NORMAL)
    for part in (axis, scale):
        part.tick_params(axis="x", labelsize=SMALL)
    figure.suptitle("Firing rate by site", fontsize=11)
    return figure


def _check(rates: Mapping[str, Sequence[float]]) -> int:
    """T.

    Raises:
        ValueError: as `plot_firing_rate` does.
    """
    lengths = {len(values) for values in rates.values()}
    if not rates or lengths == {0}:
        raise ValueError("no firing rates to draw: give at least one site with a rate for each time step")
    if len(lengths) > 1:
        raise ValueError(
            f"all sites need a rate for each of T time steps, got {min(lengths)} to {max(lengths)} of them"
        )
    for site, values in rates.items():
        wrong = [value for value in values if not 0 <= value < math.inf]
        if wrong:
            raise ValueError(f"firing rates must be finite and not negative, got {wrong[0]} at {site}")
    return lengths.pop()
