"""plot_energy draws the energy of each layer, ANN beside SNN, by kind of operator."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from pictures import overlaps

from las_sj.analysis.plots.energy_bars import Row, plot_energy
from las_sj.analysis.plots.picture import Picture

KINDS = ("projection", "scores", "softmax", "values", "norm", "activation", "gate", "rope", "embedding", "head")


def some_rows(layers: int, scale: float = 1.0, kinds: Sequence[str] = KINDS) -> list[Row]:
    generator = np.random.default_rng(0)
    names = [f"layers.{index}" for index in range(layers)]
    return [(name, kind, *(scale * generator.random(2)).tolist()) for name in names for kind in kinds]


def bars(figure: Figure) -> list[tuple[float, float, float, str]]:
    """(y of its centre, left end, length, kind) of each bar that is not empty."""
    (axis,) = figure.axes
    return [
        (bar.get_y() + bar.get_height() / 2, bar.get_x(), bar.get_width(), str(container.get_label()))
        for container in axis.containers
        if isinstance(container, BarContainer)
        for bar in container.patches
        if bar.get_width()
    ]


def test_bars_are_the_energies() -> None:
    rows = some_rows(5, scale=0.1)
    drawn = {(round(y, 6), kind): length for y, _, length, kind in bars(plot_energy(rows))}
    expected: dict[tuple[float, str], float] = {}
    for layer, kind, ann, snn in rows:
        row = int(layer.removeprefix("layers."))
        expected |= {(row + 0.3, kind): ann, (row + 0.7, kind): snn}
    assert len(expected) == 100
    assert drawn == pytest.approx(expected)


def test_bars_are_stacked_without_gaps() -> None:
    rows = some_rows(4, scale=0.1)
    stacks: dict[float, list[tuple[float, float]]] = {}
    for y, left, length, _ in bars(plot_energy(rows)):
        stacks.setdefault(round(y, 3), []).append((left, length))
    assert len(stacks) == 8
    for y, parts in stacks.items():
        column = 2 if y % 1 < 0.5 else 3  # the ANN's bar is the upper one: y grows downwards
        assert parts[0][0] == 0
        for (left, length), (following, _) in pairwise(parts):
            assert left + length == pytest.approx(following)
        total = sum(float(row[column]) for row in rows if row[0] == f"layers.{int(y)}")
        assert sum(length for _, length in parts) == pytest.approx(total)


def test_layers_in_the_given_order_from_the_top() -> None:
    (axis,) = plot_energy([("b", "norm", 1.0, 1.0), ("a", "norm", 1.0, 1.0)]).axes
    assert axis.get_ylim() == (2, 0)
    assert dict(zip(axis.get_yticks(), (t.get_text() for t in axis.get_yticklabels()), strict=True)) == {
        0.5: "b",
        1.5: "a",
    }


def test_same_layer_and_kind_are_added() -> None:
    figure = plot_energy([("a", "norm", 0.1, 0.5), ("b", "norm", 0.2, 0.2), ("a", "norm", 0.2, 0.25)])
    assert [length for _, _, length, _ in bars(figure)] == pytest.approx([0.3, 0.2, 0.75, 0.2])


@pytest.mark.parametrize(
    ("picojoules", "unit", "length"),
    [
        (0.0, "pJ", 0.0),
        (0.02, "pJ", 0.02),
        (999.0, "pJ", 999.0),
        (1e3, "nJ", 1.0),
        (2.5e6, "µJ", 2.5),
        (7e10, "mJ", 70.0),
        (3e12, "J", 3.0),
    ],
)
def test_units(picojoules: float, unit: str, length: float) -> None:
    figure = plot_energy([("a", "norm", picojoules, 0.0)])
    (axis,) = figure.axes
    assert axis.get_xlabel() == f"energy ({unit})"
    assert [round(bar[2], 9) for bar in bars(figure)] == ([length] if length else [])


def test_the_longest_bar_sets_the_unit() -> None:
    rows: list[Row] = [("a", "norm", 600.0, 0.0), ("a", "head", 600.0, 1.0)]
    assert plot_energy(rows).axes[0].get_xlabel() == "energy (nJ)"


def test_legend_and_colours() -> None:
    kinds = ["mystery", *KINDS, "enigma"]
    figure = plot_energy(some_rows(3, kinds=kinds))
    (axis,) = figure.axes
    legend = axis.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [*KINDS, "mystery", "enigma"]
    assert "ANN" in legend.get_title().get_text()
    swatches = [swatch.get_facecolor() for swatch in legend.get_patches()]
    assert len(set(swatches)) == len(kinds)
    shades = {(str(c.get_label()), bar.get_facecolor()) for c in axis.containers for bar in c.patches}  # type: ignore[attr-defined]
    assert len(shades) == len({colour for _, colour in shades}) == 2 * len(kinds)  # pale ones for the ANN
    figure.draw_without_rendering()
    assert not legend.get_window_extent().overlaps(axis.get_window_extent())


@pytest.mark.parametrize("layers", [1, 10, 200, 500])
def test_legible(layers: int) -> None:
    kinds = [*KINDS, "residual", "other"] if layers <= 200 else KINDS[:2]  # a bar takes a millisecond
    figure = plot_energy(some_rows(layers, kinds=kinds), title="Energy of a model")
    assert not overlaps(figure)
    assert max(figure.get_size_inches()) < 30
    labels = figure.axes[0].get_yticklabels()
    assert min(float(label.get_fontsize()) for label in labels) >= 6
    assert len(labels) == layers if layers <= 200 else 100 < len(labels) < layers


def test_titles_and_long_names() -> None:
    long = "a_model_with_a_name.that_goes_on.and_on.layers.17.self_attn"
    figure = plot_energy([(long, "norm", 1.0, 1.0)])
    assert figure.get_suptitle() == "Energy by layer"
    assert figure.axes[0].get_yticklabels()[0].get_text() == f"…{long[-39:]}"
    assert plot_energy([("a", "norm", 1.0, 1.0)], title="Mine").get_suptitle() == "Mine"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "give at least one row"),
        ([("a", "norm", -1.0, 0.0)], r"finite and not negative, got -1.0, 0.0 pJ for a, norm"),
        ([("a", "norm", 1.0, math.nan)], "finite and not negative"),
        ([("a", "norm", math.inf, 1.0)], "finite and not negative"),
    ],
)
def test_refused(rows: list[Row], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_energy(rows)


def test_saved(tmp_path: Path) -> None:
    figure = plot_energy(some_rows(40, scale=1e6))
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        figure.savefig(tmp_path / f"energy.{kind}", dpi=40)
        assert (tmp_path / f"energy.{kind}").read_bytes().startswith(start)


def test_notebooks_show_it() -> None:
    figure = plot_energy(some_rows(3))
    assert isinstance(figure, Picture)
    assert figure._repr_png_().startswith(b"\x89PNG")
