"""plot_firing_rate draws a map of firing rates, sites against time steps."""

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from pictures import drawn_texts, overlaps

from las_sj.analysis.labels import layer_of, layer_spans, name_in_layer, shorten, thin, wrap
from las_sj.analysis.plots.firing_rate import plot_firing_rate

IN_LAYER = ["ln_1.centred_node", "attn.c_attn.input_node", "attn.las_attention.query_node", "mlp.act.node"]


def site_names(count: int) -> list[str]:
    """The last two belong to no layer."""
    names = [f"transformer.h.{layer}.{rest}" for layer in range(count) for rest in IN_LAYER][: count - 2]
    return [*names, "transformer.ln_f.scale_node", "lm_head.input_node"]


def some_rates(count: int, time_steps: int = 12) -> dict[str, list[float]]:
    generator = np.random.default_rng(0)
    return {name: generator.random(time_steps).tolist() for name in site_names(count)}


def main_axis(figure: Figure) -> Axes:
    (axis,) = [axis for axis in figure.axes if axis.get_xlabel() == "time step"]
    return axis


def test_cells_are_the_rates() -> None:
    rates = some_rates(10)
    figure = plot_firing_rate(rates)
    (mesh,) = [artist for artist in main_axis(figure).collections if isinstance(artist, QuadMesh)]
    np.testing.assert_array_equal(mesh.get_array(), list(rates.values()))
    corners = np.asarray(mesh.get_coordinates())
    assert corners[0, :, 0].tolist() == [step + 0.5 for step in range(13)]  # step t around x = t
    assert corners[:, 0, 1].tolist() == list(range(11))
    assert main_axis(figure).get_ylim() == (10, 0)  # the first site on top
    assert mesh.get_clim() == (0, max(max(values) for values in rates.values()))
    assert "spikes per neuron and time step" in dict(drawn_texts(figure))


def test_rows_are_named_and_grouped() -> None:
    rates = some_rates(10)
    figure = plot_firing_rate(rates)
    axis = main_axis(figure)
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        *["ln_1.centred", "attn.c_attn.input", "attn.query", "mlp.act"] * 2,
        "scale",
        "input",
    ]
    boxes = dict(drawn_texts(figure))
    centres = {
        name: axis.transData.inverted().transform((boxes[name].x0, (boxes[name].y0 + boxes[name].y1) / 2))[1]
        for name in ("h.0", "h.1", "ln_f", "lm_head")
    }
    assert centres == pytest.approx({"h.0": 2, "h.1": 6, "ln_f": 8.5, "lm_head": 9.5}, abs=0.2)
    assert [np.asarray(line.get_ydata())[0] for line in axis.lines] == [4, 8, 9]  # between layers


@pytest.mark.parametrize(("count", "time_steps"), [(1, 1), (10, 16), (10, 2), (40, 24), (200, 16), (600, 4)])
def test_legible(count: int, time_steps: int) -> None:
    names = site_names(count + 2)[:count]
    figure = plot_firing_rate(dict.fromkeys(names, [0.1] * time_steps))
    assert not overlaps(figure)
    assert max(figure.get_size_inches()) < 30
    labels = main_axis(figure).get_yticklabels()
    assert min(float(label.get_fontsize()) for label in labels) >= 6
    if count <= 200:
        assert len(labels) == count
    else:  # the layers alone
        assert [label.get_text() for label in labels][:3] == ["h.0", "h.1", "h.2"]


def test_silence() -> None:
    (mesh,) = main_axis(plot_firing_rate({"a": [0.0, 0.0]})).collections
    assert mesh.get_clim() == (0, 1)


def test_saved(tmp_path: Path) -> None:
    figure = plot_firing_rate(some_rates(200))
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        figure.savefig(tmp_path / f"rates.{kind}", dpi=40)
        assert (tmp_path / f"rates.{kind}").read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({}, "give at least one site"),
        ({"a": [], "b": []}, "give at least one site"),
        ({"a": [0.1], "b": [0.1, 0.2]}, "a rate for each of T time steps, got 1 to 2"),
        ({"a": [0.1], "b": [-0.1]}, "finite and not negative, got -0.1 at b"),
        ({"a": [math.nan]}, "finite and not negative, got nan at a"),
        ({"a": [math.inf]}, "finite and not negative, got inf at a"),
    ],
)
def test_refused(rates: dict[str, list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_firing_rate(rates)


# Names


@pytest.mark.parametrize(
    ("site", "layer", "name"),
    [
        ("transformer.h.3.attn.c_attn.input_node", "h.3", "attn.c_attn.input"),
        ("model.layers.17.self_attn.las_attention.query_node", "layers.17", "self_attn.query"),
        ("model.layers.17.mlp.act_fn.node", "layers.17", "mlp.act_fn"),
        ("bert.encoder.layer.0.output.LayerNorm.scale_node", "layer.0", "output.LayerNorm.scale"),
        ("bert.pooler.dense.input_node", "pooler.dense", "input"),
        ("transformer.ln_f.centred_node", "ln_f", "centred"),
        ("bert.pooler.activation.node", "pooler.activation", "node"),
        ("lm_head.input_node", "lm_head", "input"),
        ("anything", "", "anything"),
    ],
)
def test_names(site: str, layer: str, name: str) -> None:
    assert (layer_of(site), name_in_layer(site)) == (layer, name)


def test_layers_of_two_stacks_stay_apart() -> None:
    spans = layer_spans(["encoder.block.0.a", "encoder.block.0.b", "decoder.block.0.a"])
    assert [(span.layer, span.first, span.end) for span in spans] == [("block.0", 0, 2), ("block.0", 2, 3)]


def test_thinned_and_shortened() -> None:
    assert thin(range(10), 4) == [0, 2, 5, 7]
    assert thin([1, 2], 4) == [1, 2]
    assert shorten("model.layers.17", 8) == "…yers.17"
    assert shorten("lm_head", 7) == "lm_head"
    assert wrap("a.bb.ccc.dddd", 6) == "a.bb\nccc\ndddd"
    assert wrap("a.bb.ccc.dddd", 6).replace("\n", ".") == "a.bb.ccc.dddd"
    assert wrap("unbreakable", 3) == "unbreakable"
