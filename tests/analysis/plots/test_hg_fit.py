"""plot_hg_fit draws HG neurons beside their functions, and the error under its bound."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pictures import overlaps

from las_sj.analysis.plots.hg_fit import plot_hg_fit
from las_sj.neurons import FUNCTIONS, HGNode
from las_sj.neurons.functions import OctaveFunction

Array = np.ndarray[Any, Any]
RELATIVE = ("exp", "exp_wide", "reciprocal", "rsqrt", "sqrt", "square")


def curve(axis: Axes, label: str) -> tuple[Array, Array]:
    (line,) = [line for line in axis.lines if line.get_label() == label]
    x, y = line.get_data()
    return np.asarray(x), np.asarray(y)


def error(axis: Axes) -> tuple[Array, Array]:
    x, y = axis.lines[0].get_data()
    return np.asarray(x), np.asarray(y)


def bound(axis: Axes) -> float:
    low, high = np.asarray(axis.lines[1].get_ydata())
    assert low == high
    return float(low)


def borders(figure: Figure) -> tuple[list[float], str]:
    """Those that are drawn, and their entry in the legend."""
    rugs = [line for line in figure.axes[0].lines if line.get_marker() == "|"]
    return (np.asarray(rugs[0].get_xdata()).tolist(), str(rugs[0].get_label())) if rugs else ([], "")


@pytest.mark.parametrize(("time_steps", "tolerance"), [(16, 1e-5), (8, 1e-3)])
@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_errors_are_those_of_the_neuron(name: str, time_steps: int, tolerance: float) -> None:
    figure = plot_hg_fit(name, time_steps, tolerance=tolerance)
    top, absolute, *relative = figure.axes
    node = HGNode(name, time_steps, tolerance=tolerance)
    x, exact = curve(top, "f(x)")
    inputs = torch.from_numpy(x)
    expected = (node(inputs) - FUNCTIONS[name].exact(inputs)).abs().numpy()
    np.testing.assert_array_equal(exact, FUNCTIONS[name].exact(inputs).numpy())
    np.testing.assert_array_equal(curve(top, "HG(x)")[1], node(inputs).numpy())
    np.testing.assert_array_equal(error(absolute), [x, expected])
    assert bound(absolute) == node.bound
    assert error(absolute)[1].max() <= bound(absolute) * (1 + 1e-9)
    assert len(relative) == (name in RELATIVE)
    if relative:
        np.testing.assert_allclose(error(relative[0])[1], expected / np.abs(exact))
        assert bound(relative[0]) == node.relative_bound
        assert error(relative[0])[1].max() <= bound(relative[0])
    assert (x[0], x[-1]) == (node.low, node.high)
    assert top.get_xscale() == ("log" if isinstance(FUNCTIONS[name], OctaveFunction) else "linear")
    assert not overlaps(figure)


@pytest.mark.parametrize("name", ["gelu", "tanh", "exp"])
def test_borders_are_where_sub_neurons_change(name: str) -> None:
    node = HGNode(name, 16, tolerance=1e-3)
    starts = node.gates.fit.lines.start
    expected = [start for start in starts.tolist() if start > node.low]
    drawn, label = borders(plot_hg_fit(name, tolerance=1e-3))
    if len(expected) <= 160:
        assert drawn == expected
        assert label == "borders of sub-neurons"
    else:
        assert set(drawn) <= set(expected)
        assert label == f"borders of sub-neurons ({len(drawn)} of {len(expected)})"
        assert 100 < len(drawn) <= 160


def test_borders_of_sloped_tails() -> None:
    node = HGNode("gelu", 16, -8.0, 11.0, tolerance=1e-3)
    drawn, _ = borders(plot_hg_fit(node))
    tail = [x for x in drawn if x > 6]
    assert tail == [6 + node.gates.tail_width * step for step in range(1, round(5 / node.gates.tail_width))]
    assert {-6.0, 6.0} <= set(drawn)
    assert not [x for x in drawn if x < -6]  # one flat sub-neuron there
    assert len(drawn) == node.sub_neurons - 1


@pytest.mark.parametrize("name", ["reciprocal", "rsqrt"])
def test_borders_of_powers(name: str) -> None:
    drawn, label = borders(plot_hg_fit(name, 8, 0.5, 2.0, tolerance=1e-3))
    per_octave = HGNode(name, 8, tolerance=1e-3).sub_neurons // 40
    octave = 0.5 * (1 + np.arange(per_octave) / per_octave)
    assert drawn == pytest.approx([*octave[1:], *(2 * octave)])
    assert label == "borders of sub-neurons"


def test_relu_has_no_border_in_its_core() -> None:
    assert borders(plot_hg_fit("relu")) == ([], "")
    assert borders(plot_hg_fit("relu", low=-1))[0] == [0.0]


@pytest.mark.parametrize("name", ["silu", "exp", "square"])
def test_a_neuron_is_drawn_like_its_settings_and_stays_as_it_is(name: str) -> None:
    node = HGNode(name, 10, tolerance=1e-4, step_mode="m")
    node.counts.added, node.bypass = 7, True
    drawn = plot_hg_fit(node, time_steps=3, tolerance=1e-2)  # which are for neurons given by their name
    expected = plot_hg_fit(name, 10, tolerance=1e-4)
    for ours, theirs in zip(drawn.axes, expected.axes, strict=True):
        for line, other in zip(ours.lines, theirs.lines, strict=True):
            np.testing.assert_array_equal(line.get_data(), other.get_data())
    assert (node.out_of_range, node.bypass, node.spike_count) == (7, True, None)


def test_constant_tails_do_not_fill_the_picture() -> None:
    node = HGNode("exp", 16, low=-1e9)  # what masked scores calibrate it to
    x, _ = error(plot_hg_fit(node).axes[1])
    assert (x[0], x[-1]) == (-22.5, 0.0)
    assert not overlaps(plot_hg_fit(node))
    x, _ = error(plot_hg_fit("gelu", low=-50.0).axes[1])  # but what is asked for is drawn
    assert x[0] == -50
    x, _ = error(plot_hg_fit(HGNode("gelu", 16, -50.0, 9.3)).axes[1])
    assert (x[0], x[-1]) == (-7.5, 9.3)


def test_part_of_the_range() -> None:
    x, _ = error(plot_hg_fit("gelu", low=-1.0, high=0.5).axes[1])
    assert (x[0], x[-1]) == (-1.0, 0.5)
    x, _ = error(plot_hg_fit("gelu", low=-9.0, high=12.0).axes[1])  # which the range is extended to
    assert (x[0], x[-1]) == (-9.0, 12.0)
    x, _ = error(plot_hg_fit(HGNode("rsqrt", 12), low=0.1, high=10.0).axes[2])
    assert (x[0], x[-1]) == pytest.approx((0.1, 10.0))


def test_relative_error_of_exp_ends_with_its_core() -> None:
    figure = plot_hg_fit("exp", low=-25.0, tolerance=1e-3)
    x, relative = error(figure.axes[2])
    assert np.isnan(relative[x < -20]).all()
    assert np.isfinite(relative[x >= -20]).all()
    assert np.isfinite(error(figure.axes[1])[1]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"function": "acos"}, "function must be one of"),
        ({"function": "gelu", "time_steps": 0}, "time_steps must be an integer"),
        ({"function": "gelu", "tolerance": 1.0}, "tolerance must lie in"),
        (
            {"function": "gelu", "low": 2.0, "high": 1.0},
            "fitted to -6 … 6: low and high must lie there, low below high",
        ),
        ({"function": "exp", "high": 1.0}, "of exp is fitted to -20 … 0: low and high must lie there"),
        ({"function": "rsqrt", "low": 0.0}, "low and high must lie there, low below high, got 0 and"),
        ({"function": "rsqrt", "low": -1.0}, "low and high must not be negative"),
        ({"function": "gelu", "low": math.nan}, "low must be finite"),
        ({"function": HGNode("gelu", 8), "high": 7.0}, "fitted to -6 … 6: low and high must lie there"),
        ({"function": HGNode("gelu", 8), "low": math.nan}, "fitted to -6 … 6: low and high must lie there"),
    ],
)
def test_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_hg_fit(**arguments)


@pytest.mark.parametrize("name", ["gelu", "square"])
def test_saved(name: str, tmp_path: Path) -> None:
    figure = plot_hg_fit(name)
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        figure.savefig(tmp_path / f"fit.{kind}")
        assert (tmp_path / f"fit.{kind}").read_bytes().startswith(start)
    assert (tmp_path / "fit.svg").stat().st_size < 1_000_000
