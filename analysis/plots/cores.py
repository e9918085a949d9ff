"""Cores of a chip that each block of a network needs, and the limit that makes it so many."""

from collections.abc import Sequence

import numpy as np

from las_sj.analysis.labels import NORMAL, SMALL, label_rows, legend_above, row_height, shorten
from las_sj.analysis.plots.picture import Picture

Row = tuple[str, str, int]  # block, limit that binds, cores

# The qualitative scheme "muted" of Paul Tol, made for colour-blind readers (https://personal.sron.nl/~pault).
_COLOURS = ("#332288", "#88CCEE", "#44AA99", "#DDCC77", "#CC6677", "#AA4499", "#882255", "#117733")
_LONGEST_NAME = 40


def plot_cores(rows: Sequence[Row], title: str = "") -> Picture:
    """Draw a stacked bar for each block, in parts by the limit that binds.

    Args:
        rows: (block, limit, cores); rows of the same block and limit are added up. Blocks stand in the order given.
        title: of the figure; "Cores by block" if empty.

    Raises:
        ValueError: there are no rows, or a number of cores is negative.
    """
    if not rows:
        raise ValueError("no cores to draw: give at least one row (block, limit, cores)")
    if min(cores for _, _, cores in rows) < 0:
        raise ValueError("cores must not be negative")
    blocks, limits = [*dict.fromkeys(row[0] for row in rows)], [*dict.fromkeys(row[1] for row in rows)]
    height = row_height(len(blocks), 0.3)
    figure = Picture(figsize=(8, height * len(blocks) + 1.6), layout="constrained")
    axis = figure.subplots()
    left = np.zeros(len(blocks))
    for number, limit in enumerate(limits):
        cores = np.zeros(len(blocks))
        for block, binds, count in rows:
            cores[blocks.index(block)] += count if binds == limit else 0
        axis.barh(np.arange(len(blocks)) + 0.5, cores, 0.7, left, color=_COLOURS[number % len(_COLOURS)], label=limit)
        left += cores
    label_rows(axis, [shorten(block, _LONGEST_NAME) for block in blocks], height)
    axis.set_axisbelow(True)
    axis.grid(axis="x", color="0.85", linewidth=0.6)
    axis.tick_params(axis="x", labelsize=SMALL)
    axis.set_xlabel("cores that hold its weights", fontsize=NORMAL)
    legend_above(axis, axis.get_legend_handles_labels()[0], columns=4, title="the limit that binds")
    figure.suptitle(title or "Cores by block", fontsize=11)
    return figure
