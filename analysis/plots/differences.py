"""How far a spiking network is from its ANN, metric by metric, with intervals."""

from collections.abc import Sequence

from las_sj.analysis.plots.picture import Picture

Bar = tuple[str, float, float, float, float]

_ROW = 0.32  # inches
_COLOUR = "#332288"


def plot_differences(bars: Sequence[Bar], title: str = "") -> Picture:
    """Draw differences in per cent of the ANN's value, with their intervals.

    Args:
        bars: name, value of the ANN, SNN − ANN, and the ends of its interval.
        title: above the picture.

    Raises:
        ValueError: there are no bars.
    """
    if not bars:
        raise ValueError("there is nothing to draw: give at least one difference")
    figure = Picture(figsize=(8, 1.1 + _ROW * len(bars)), layout="constrained")
    axes = figure.subplots()
    for row, (_, ann, *values) in enumerate(bars):
        share, low, high = (100 * value / (abs(ann) or 1.0) for value in values)
        axes.plot((low, high), (row, row), color=_COLOUR, linewidth=2, solid_capstyle="round")
        axes.plot(share, row, "o", color=_COLOUR, markersize=5)
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(bars)), [f"{name} ({ann:.4g})" for name, ann, *_ in bars])
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.margins(x=0.1)
    axes.set_xlabel("SNN − ANN, per cent of the ANN's value (in brackets), with 95 % interval")
    axes.grid(axis="x", linewidth=0.4)
    if title:
        axes.set_title(title)
    return figure
