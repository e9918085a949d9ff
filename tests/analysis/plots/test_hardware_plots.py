"""Pictures of cores and of steps."""

import pytest
from pictures import overlaps

from las_sj.analysis import plot_cores, plot_steps


def test_cores_stand_at_their_block() -> None:
    figure = plot_cores([("h.0", "none", 3), ("h.0", "axons in", 2), ("head", "synapse memory", 7), ("h.0", "none", 1)])
    axes = figure.axes[0]
    widths = {bar.get_label(): [patch.get_width() for patch in bar] for bar in axes.containers}
    assert widths == {"none": [4, 0], "axons in": [2, 0], "synapse memory": [0, 7]}
    starts = {bar.get_label(): [patch.get_x() for patch in bar] for bar in axes.containers}
    assert starts["axons in"][0] == 4
    assert not overlaps(figure)
    with pytest.raises(ValueError, match="give at least one row"):
        plot_cores([])
    with pytest.raises(ValueError, match="must not be negative"):
        plot_cores([("h.0", "none", -1)])


def test_steps_one_after_the_other() -> None:
    figure = plot_steps([5, 7, 6, 8], [1e-6, 2e-6, 3e-6, 4e-6], time_steps=2)
    above, below = figure.axes
    assert above.lines[0].get_xydata().tolist() == [[1, 5], [2, 7], [3, 6], [4, 8]]
    assert below.lines[0].get_ydata() == pytest.approx([1, 2, 3, 4])  # µs
    assert above.lines[1].get_xdata()[0] == 2.5  # where the second token begins
    assert not overlaps(figure)
    assert len(plot_steps([5, 7], [], time_steps=2).axes) == 1  # nobody publishes times
    with pytest.raises(ValueError, match="steps must be as many as times"):
        plot_steps([5, 7], [1e-6], time_steps=2)
    with pytest.raises(ValueError, match="got 0 and 0"):
        plot_steps([], [], time_steps=2)
