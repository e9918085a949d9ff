"""Traffic and time of the steps of a chip, one after the other."""

from collections.abc import Sequence

import numpy as np

from las_sj.analysis.labels import NORMAL, SMALL
from las_sj.analysis.plots.picture import Picture


def plot_steps(messages: Sequence[int], seconds: Sequence[float], time_steps: int, title: str = "") -> Picture:
    """Draw messages over steps, and below them how long each step takes.

    Args:
        messages: sent in each step, in all.
        seconds: that each step takes; empty where nobody publishes times.
        time_steps: T; a line stands where each token begins.
        title: of the figure; "Traffic and time of each step" if empty.

    Raises:
        ValueError: there are no steps, or times of other steps.
    """
    if not len(messages) or (len(seconds) and len(seconds) != len(messages)):
        raise ValueError(f"steps must be as many as times, or times none, got {len(messages)} and {len(seconds)}")
    panels = [("messages", np.asarray(messages, dtype=float), "#332288")]
    if len(seconds):
        panels.append(("time, µs", 1e6 * np.asarray(seconds), "#CC6677"))
    figure = Picture(figsize=(9, 1.2 + 1.7 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, values, colour) in zip(axes, panels, strict=True):
        axis.step(np.arange(1, len(values) + 1), values, where="mid", color=colour, linewidth=0.9)
        for token in range(time_steps, len(values), time_steps):
            axis.axvline(token + 0.5, color="0.85", linewidth=0.6, zorder=0)
        axis.set_ylabel(name, fontsize=NORMAL)
        axis.set_ylim(bottom=0)
        axis.tick_params(labelsize=SMALL)
    axes[-1].set_xlabel(f"time step (lines between tokens, T = {time_steps})", fontsize=NORMAL)
    figure.suptitle(title or "Traffic and time of each step", fontsize=11)
    return figure
