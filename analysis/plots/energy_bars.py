"""Energy by layer and kind of operator, ANN beside SNN."""

import math
from collections.abc import Iterable, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from las_sj.analysis.labels import NORMAL, SMALL, label_rows, legend_above, row_height, shorten
from las_sj.analysis.plots.picture import Picture

Row = tuple[str, str, float, float]
Array = np.ndarray[Any, Any]

_UNITS = {"pJ": 1.0, "nJ": 1e3, "µJ": 1e6, "mJ": 1e9, "J": 1e12}  # in pJ
# The qualitative scheme "muted" of Paul Tol, made for colour-blind readers (https://personal.sron.nl/~pault).
_COLOURS = {
    "projection": "#332288",
    "scores": "#88CCEE",
    "softmax": "#44AA99",
    "values": "#117733",
    "norm": "#DDCC77",
    "activation": "#CC6677",
    "gate": "#882255",
    "rope": "#AA4499",
    "embedding": "#999933",
    "head": "#661100",
    "residual": "#6E6E6E",
}
_OTHERS = ("#A8A8A8", "#3C3C3C", "#CFCFCF")
_PALE = 0.55  # share of white in the ANN's bars
_BAR = 0.4  # height of a bar, in rows
_LONGEST_NAME = 40


def plot_energy(rows: Sequence[Row], title: str = "") -> Picture:
    """Draw two stacked bars for each layer, the ANN's above the SNN's, in parts by kind of operator.

    Args:
        rows: (layer, kind of operator, energy of the ANN, energy of the SNN), energies in pJ; rows of the same layer
            and kind are added up. Layers and kinds that are not known stand in the order given.
        title: of the figure; "Energy by layer" if empty.

    Returns:
        The figure, in pJ, nJ, µJ, mJ or J, as the longest bar needs.

    Raises:
        ValueError: there are no rows, or an energy is negative, infinite or NaN.
    """
    if not rows:
        raise ValueError("no energies to draw: give at least one row (layer, kind, ANN's pJ, SNN's pJ)")
    for layer, kind, ann_pj, snn_pj in rows:
        if not (0 <= ann_pj < math.inf and 0 <= snn_pj < math.inf):
            raise ValueError(f"energies must be finite and not negative, got {ann_pj}, {snn_pj} pJ for {layer}, {kind}")
    layers = list(dict.fromkeys(row[0] for row in rows))
    energies = _by_kind(rows, layers)
    unit, factor = _unit(float(np.sum(list(energies.values()), axis=0).max()))
    height = row_height(len(layers), 0.42)
    figure = Picture(figsize=(9, height * len(layers) + 1.8), layout="constrained")
    axis = figure.subplots()
    colours = _colours(energies)
    for network, offset, white in ((0, 0.5 - _BAR / 2, _PALE), (1, 0.5 + _BAR / 2, 0.0)):
        left = np.zeros(len(layers))
        for kind, energy in energies.items():
            width = energy[network] / factor
            colour = _mixed(colours[kind], white)
            axis.barh(np.arange(len(layers)) + offset, width, _BAR, left, color=colour, label=kind)
            left += width
    _finish(axis, layers, height, unit)
    marks = [Patch(color=colour, label=kind) for kind, colour in colours.items()]
    legend_above(axis, marks, columns=6, title="upper bars, pale: ANN; lower bars: SNN")
    figure.suptitle(title or "Energy by layer", fontsize=11)
    return figure


def _by_kind(rows: Sequence[Row], layers: Sequence[str]) -> dict[str, Array]:
    """Energy of ANN and SNN by kind, each [2, layers]; known kinds first."""
    index = {layer: position for position, layer in enumerate(layers)}
    given = dict.fromkeys(row[1] for row in rows)
    kinds = [kind for kind in _COLOURS if kind in given] + [kind for kind in given if kind not in _COLOURS]
    energies = {kind: np.zeros((2, len(layers))) for kind in kinds}
    for layer, kind, ann_pj, snn_pj in rows:
        energies[kind][:, index[layer]] += ann_pj, snn_pj
    return energies


def _unit(longest_pj: float) -> tuple[str, float]:
    """The largest unit in which that energy is 1 or more, and its picojoules."""
    fitting = [(unit, factor) for unit, factor in _UNITS.items() if longest_pj >= factor]
    return fitting[-1] if fitting else ("pJ", 1.0)


def _colours(kinds: Iterable[str]) -> dict[str, str]:
    others = cycle(_OTHERS)
    return {kind: _COLOURS[kind] if kind in _COLOURS else next(others) for kind in kinds}


def _finish(axis: Axes, layers: Sequence[str], height: float, unit: str) -> None:
    """Names, the axis of energies, and a shade behind every second layer, so that its bars are seen as a pair."""
    label_rows(axis, [shorten(layer, _LONGEST_NAME) for layer in layers], height)
    for row in range(1, len(layers), 2):
        axis.axhspan(row, row + 1, color="0.94", linewidth=0, zorder=0)
    axis.set_xlim(left=0)
    axis.set_axisbelow(True)
    axis.grid(axis="x", color="0.85", linewidth=0.6)
    axis.tick_params(axis="x", labelsize=SMALL)
    axis.set_xlabel(f"energy ({unit})", fontsize=NORMAL)


def _mixed(colour: str, white: float) -> Array:
    """A colour made paler, opaque so that the grid does not show through."""
    return np.array(to_rgb(colour)) * (1 - white) + white
