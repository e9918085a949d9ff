"""plot_activation_histogram draws how the membrane potentials of sites lie to their thresholds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from pictures import overlaps
from tiny_models import MODELS, Model, convert_tiny, gpt2, padding_mask, run, token_ids
from torch import Tensor, nn

import las_sj
from las_sj.analysis.plots.histogram import plot_activation_histogram
from las_sj.models import named_sites
from las_sj.neurons import HGNode

BATCH = {"input_ids": token_ids(4, 40)}
SITE = "transformer.h.1.mlp.c_fc.input_node"
WEIGHTS = "transformer.h.0.attn.las_attention.weight_node"


@pytest.fixture
def snn() -> Model:
    model = convert_tiny(MODELS["gpt2"](), time_steps=12, levels=3)
    las_sj.set_execution(model, "accumulated")
    for _, site in named_sites(model):
        site.node.backend = "torch"  # population after population, whichever of them are watched
    return model


def potentials(model: Model, batch: dict[str, Any]) -> dict[str, Tensor]:
    """The membrane potentials of each coding site in one accumulated call."""
    seen: dict[str, Tensor] = {}

    def hook(name: str) -> Any:
        def record(module: nn.Module, args: Any, y: Tensor) -> None:
            seen[name] = args[0]

        return record

    nodes = [(name, site.node) for name, site in named_sites(model) if not isinstance(site.node, HGNode)]
    handles = [node.register_forward_hook(hook(name)) for name, node in nodes]
    run(model, "accumulated", **batch)
    for handle in handles:
        handle.remove()
    return {name: seen[name] for name, _ in nodes}


def panels(figure: Figure) -> list[Axes]:
    return [axis for axis in figure.axes if axis.get_title()]


def bars(axis: Axes) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], float]:
    """Counts, edges, and the count of what is smaller."""
    drawn, rest = [patch.get_data() for patch in axis.patches if isinstance(patch, StepPatch)]
    (counts, edges, _), (smaller, its_edges, _) = drawn, rest
    assert its_edges[-1] == edges[0]
    return np.asarray(counts), np.asarray(edges), float(smaller[0])


def test_bars_count_the_potentials(snn: Model) -> None:
    v = potentials(snn, BATCH)
    for axis, site in zip(panels(plot_activation_histogram(snn, BATCH, [SITE, WEIGHTS])), (SITE, WEIGHTS), strict=True):
        counts, edges, rest = bars(axis)
        magnitude = v[site].abs().flatten().double().numpy()
        assert counts.tolist() == np.histogram(magnitude, edges)[0].tolist()
        assert rest == (magnitude < edges[0]).sum()
        assert counts.sum() + rest == len(magnitude)
        assert np.log2(edges[1:] / edges[:-1]) == pytest.approx(0.25, abs=0.015)
        assert axis.get_xscale() == axis.get_yscale() == "log"


def test_thresholds_and_shares(snn: Model) -> None:
    v, node = potentials(snn, BATCH)[SITE].abs(), snn.get_submodule(SITE)
    (axis,) = panels(plot_activation_histogram(snn, BATCH, [SITE]))
    thetas = [float(node.theta_normal), float(node.theta_outlier)]
    assert [np.asarray(line.get_xdata())[0] for line in axis.lines] == pytest.approx(thetas)
    normal, outlier = (100 * float((v > theta).float().mean()) for theta in thetas)
    assert 0 < normal < 100
    name, shares = axis.get_title().split("\n")
    assert name == SITE
    assert f"normal}}$ {normal:.2f} %" in shares
    assert f"outlier}}$ {outlier:.2f} %" in shares


def test_one_threshold_without_outlier_neurons() -> None:
    model = convert_tiny(MODELS["gpt2"](), time_steps=8, outlier_aware=False)
    figure = plot_activation_histogram(model, BATCH, [SITE])
    (axis,) = panels(figure)
    assert [np.asarray(line.get_xdata())[0] for line in axis.lines] == pytest.approx(
        [float(model.get_submodule(SITE).theta)]
    )
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["|v|", "smaller, or 0", r"$\theta$"]


def test_thresholds_of_channels_are_spans(snn: Model) -> None:
    node = snn.get_submodule(SITE)
    node.theta_normal.data = torch.linspace(0.5, 2, 32)
    v = potentials(snn, BATCH)[SITE].abs()
    (axis,) = panels(plot_activation_histogram(snn, BATCH, [SITE]))
    (span,) = [artist for artist in axis.patches if not isinstance(artist, StepPatch)]
    assert span.get_extents().transformed(axis.transData.inverted()).intervalx == pytest.approx([0.5, 2])
    assert f"normal}}$ {100 * float((v > node.theta_normal).float().mean()):.2f} %" in axis.get_title()


def test_padding_is_left_out(snn: Model) -> None:
    batch = {"input_ids": token_ids(), "attention_mask": padding_mask("right")}
    (axis,) = panels(plot_activation_histogram(snn, batch, [SITE]))
    counts, _, rest = bars(axis)
    assert counts.sum() + rest == 32 * int(batch["attention_mask"].sum())


def test_executions_agree(snn: Model) -> None:
    (accumulated,) = panels(plot_activation_histogram(snn, BATCH, [SITE]))
    las_sj.set_execution(snn, "temporal")
    (temporal,) = panels(plot_activation_histogram(snn, BATCH, [SITE]))
    difference = np.abs(bars(accumulated)[0] - bars(temporal)[0]).sum()
    assert difference <= 0.01 * bars(temporal)[0].sum()  # values at the edge of a bar


def test_default_is_a_spread_of_sites_that_feed_weights(snn: Model) -> None:
    titles = [
        axis.get_title().split("\nbeyond")[0].replace("\n", ".")
        for axis in panels(plot_activation_histogram(snn, BATCH))
    ]
    feeding = [name for name, site in named_sites(snn) if site.feeds == "weights"]
    assert 1 < len(titles) <= 8
    assert titles == [name for name in feeding if name in titles]


# The map


def test_map_holds_every_site(snn: Model) -> None:
    v = potentials(snn, BATCH)
    figure = plot_activation_histogram(snn, BATCH, "all")
    (axis,) = [axis for axis in figure.axes if axis.get_xlabel().startswith("|membrane potential|")]
    (mesh,) = [artist for artist in axis.collections if isinstance(artist, QuadMesh)]
    shares: np.ndarray[Any, Any] = np.ma.filled(np.ma.asarray(mesh.get_array()), 0)
    edges = np.asarray(mesh.get_coordinates())[0, :, 0]
    assert shares.shape == (len(v), len(edges) - 1)
    for row, values in zip(shares, v.values(), strict=True):
        magnitude = values.abs().flatten().double().numpy()
        np.testing.assert_allclose(row * len(magnitude), np.histogram(magnitude, edges)[0], atol=1e-6)
    normal, outlier = [artist for artist in axis.collections if isinstance(artist, LineCollection)]
    for marks, parameter in ((normal, "theta_normal"), (outlier, "theta_outlier")):
        thetas = [float(snn.get_submodule(site).get_parameter(parameter)) for site in v]
        assert [segment[0, 0] for segment in marks.get_segments()] == pytest.approx(thetas)
        assert [segment[:, 1].tolist() for segment in marks.get_segments()] == [[i, i + 1] for i in range(len(v))]


def test_map_has_shares_beyond_beside_it(snn: Model) -> None:
    v = potentials(snn, BATCH)
    figure = plot_activation_histogram(snn, BATCH, "all")
    (axis,) = [axis for axis in figure.axes if axis.get_xlabel() == "values beyond (%)"]
    normal = next(line for line in axis.lines if line.get_marker() == "o")
    expected = {
        row + 0.5: 100 * float((values.abs() > snn.get_submodule(site).theta_normal).float().mean())
        for row, (site, values) in enumerate(v.items())
    }
    drawn = dict(zip(np.asarray(normal.get_ydata()), np.asarray(normal.get_xdata()), strict=True))
    assert drawn == pytest.approx({row: share for row, share in expected.items() if share})


def test_two_hundred_sites_are_legible(tmp_path: Path) -> None:
    model = convert_tiny(gpt2(n_layer=13), time_steps=8, levels=3)
    las_sj.set_execution(model, "accumulated")
    figure = plot_activation_histogram(model, BATCH, "all")
    assert len(figure.axes[2].get_yticks()) == 212
    assert not overlaps(figure)
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        figure.savefig(tmp_path / f"histogram.{kind}", dpi=40)
        assert (tmp_path / f"histogram.{kind}").read_bytes().startswith(start)


def test_panels_are_legible(snn: Model) -> None:
    figure = plot_activation_histogram(snn, BATCH, list(potentials(snn, BATCH))[:12])
    assert not overlaps(figure)
    assert all(axis.get_xlabel() == "|membrane potential|" and axis.get_ylabel() == "values" for axis in panels(figure))


def test_saved(snn: Model, tmp_path: Path) -> None:
    figure = plot_activation_histogram(snn, BATCH, [SITE, WEIGHTS])
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        figure.savefig(tmp_path / f"histogram.{kind}", dpi=40)
        assert (tmp_path / f"histogram.{kind}").read_bytes().startswith(start)


# Refusals


@pytest.mark.parametrize("site", ["nowhere", "transformer.h.0.mlp.act.node"])
def test_unknown_sites(snn: Model, site: str) -> None:
    with pytest.raises(ValueError, match=f"named_sites.*no coding neurons of that name: {site}$"):
        plot_activation_histogram(snn, BATCH, [SITE, site])


def test_no_sites(snn: Model) -> None:
    with pytest.raises(ValueError, match="no site to draw"):
        plot_activation_histogram(snn, BATCH, [])


def test_potentials_that_are_no_numbers(snn: Model) -> None:
    snn.get_submodule("transformer.h.1.ln_2").weight.data[0] = torch.nan
    with pytest.raises(ValueError, match=f"infinite or NaN activations at {SITE}: check the model's weights"):
        plot_activation_histogram(snn, BATCH, [SITE])
    assert all(site.node.recorder is None for _, site in named_sites(snn))


def test_sites_that_see_nothing(snn: Model) -> None:
    snn.get_submodule(SITE).bypass = True
    with pytest.raises(ValueError, match=f"did not reach the neurons of {SITE}"):
        plot_activation_histogram(snn, BATCH, [SITE])


def test_not_converted() -> None:
    with pytest.raises(ValueError, match="not a converted model"):
        plot_activation_histogram(MODELS["gpt2"](), BATCH)
