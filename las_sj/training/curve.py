"""A picture of the loss of a training."""

from collections.abc import Sequence

from las_sj.analysis.plots.picture import Picture

_COLOUR = "#332288"


def plot_losses(losses: Sequence[tuple[int, float]], title: str) -> Picture:
    """Draw the loss of a training by step.

    Args:
        losses: step and loss.
        title: above the picture.

    Raises:
        ValueError: there are no losses.
    """
    if not losses:
        raise ValueError("there is nothing to draw: give at least one loss")
    figure = Picture(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*losses, strict=True), color=_COLOUR, linewidth=1.2, marker="o" if len(losses) < 20 else "")
    axes.set_xlabel("step of the optimiser")
    axes.set_ylabel("training loss")
    axes.set_title(title)
    axes.grid(linewidth=0.4)
    return figure
