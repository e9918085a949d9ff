"""Pictures of loss against energy."""

import pytest
from pictures import overlaps

from las_sj.analysis import plot_pareto


def test_points_lie_where_they_belong() -> None:
    figure = plot_pareto({"paper": [(0.3, 0.5, 0.1), (0.2, 1.0, 0.2)], "level-aware": [(0.45, 0.2, 0.1)]}, "a model")
    axes = figure.axes[0]
    lines = {container.get_label(): container.lines[0].get_xydata().tolist() for container in axes.containers}
    assert lines == {"paper": [[0.2, 1.0], [0.3, 0.5]], "level-aware": [[0.45, 0.2]]}
    assert axes.get_title() == "a model"
    assert not overlaps(figure)


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="give at least one point"):
        plot_pareto({"paper": []})
