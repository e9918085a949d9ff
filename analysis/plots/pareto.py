"""Loss against energy of several networks: what each saves, and what it costs."""

from collections.abc import Mapping, Sequence

from las_sj.analysis.plots.picture import Picture

Point = tuple[float, float, float]  # energy, SNN over ANN; loss, %; half of its interval

_COLOURS = ("#332288", "#CC6677", "#117733", "#DDCC77", "#88CCEE", "#AA4499")
_MARKERS = "osD^vP"


def plot_pareto(series: Mapping[str, Sequence[Point]], title: str = "") -> Picture:
    """Draw loss over energy, one line for each series; further down and left is better.

    Args:
        series: points by the name of what they are of: energy of the SNN over that of the ANN, loss and half of its
            interval, both in per cent.
        title: above the picture.

    Raises:
        ValueError: there are no points.
    """
    if not any(series.values()):
        raise ValueError("there is nothing to draw: give at least one point")
    figure = Picture(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for number, (name, points) in enumerate(series.items()):
        energies, losses, halves = zip(*sorted(points), strict=True) if points else ((), (), ())
        colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
        axes.errorbar(energies, losses, halves, label=name, color=colour, marker=marker, markersize=5, capsize=2)
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.axvline(1.0, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlabel("energy, SNN / ANN")
    axes.set_ylabel("loss, %, with 95 % interval")
    axes.grid(linewidth=0.4)
    axes.legend(frameon=False)
    if title:
        axes.set_title(title)
    return figure
