"""plot_membrane draws the membrane potential, thresholds and spikes of chosen neurons."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from matplotlib.text import Annotation
from pictures import overlaps
from tiny_models import MODELS, Model, convert_tiny, run, token_ids
from torch import Tensor, nn

import las_sj
from las_sj.analysis.plots.membrane import plot_membrane
from las_sj.models import named_sites

BATCH = {"input_ids": token_ids()}
SITE = "transformer.h.1.mlp.c_fc.input_node"
QUERY = "transformer.h.0.attn.las_attention.query_node"
NEURONS = (0, 4, 9, 17, 31)


@pytest.fixture
def snn() -> Model:
    return convert_tiny(MODELS["gpt2"](), time_steps=12, levels=3)


def window(model: Model, site: str) -> tuple[Tensor, Tensor]:
    """(membrane potential [B, ...], train [T, B, ...]) of one temporal call."""
    seen: list[tuple[Tensor, Tensor]] = []

    def hook(module: nn.Module, args: Any, train: Tensor) -> None:
        seen.append((args[0].float().sum(0), train.float()))

    handle = model.get_submodule(site).register_forward_hook(hook)
    run(model, "temporal", **BATCH)
    handle.remove()
    return seen[0]


def panels(figure: Figure) -> list[Axes]:
    return [axis for axis in figure.axes if axis.get_title()]


def membrane(axis: Axes) -> np.ndarray[Any, Any]:
    (line,) = [line for line in axis.lines if line.get_label() == "membrane potential"]
    assert line.get_drawstyle() == "steps-post"
    steps, potential = np.asarray(line.get_data())
    assert steps.tolist() == list(range(len(potential)))
    return potential


def stairs(axis: Axes) -> list[np.ndarray[Any, Any]]:
    """Values of the shade and of the thresholds; step t lies between t − 1 and t."""
    found = [artist.get_data() for artist in axis.patches if isinstance(artist, StepPatch)]
    assert all(edges.tolist() == list(range(len(values) + 1)) for values, edges, _ in found)
    return [np.asarray(values) for values, _, _ in found]


def spikes(axis: Axes) -> dict[tuple[int, int], float]:
    """The potential at which each spike (step, sign) is marked."""
    signs = {"positive spike": 1, "negative spike": -1}
    return {
        (round(step), signs[str(marks.get_label())]): potential
        for marks in axis.collections
        for step, potential in np.asarray(marks.get_offsets())
    }


def levels(axis: Axes) -> dict[int, int]:
    """The level written at each step."""
    annotations = [text for text in axis.texts if isinstance(text, Annotation)]
    return {round(text.xy[0]): int(re.fullmatch(r"j=(\d+)", text.get_text())[1]) for text in annotations}  # type: ignore[index]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_drawn_in_single(dtype: torch.dtype) -> None:
    model = convert_tiny(MODELS["gpt2"]().to(dtype))
    v, train = window(model, SITE)
    for axis, neuron in zip(panels(plot_membrane(model, BATCH, SITE, NEURONS)), NEURONS, strict=True):
        potential = float(v[0, -1, neuron]) - np.concatenate([[0], train[:, 0, -1, neuron].numpy().cumsum()])
        np.testing.assert_allclose(membrane(axis), potential, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"levels": 3},
        {"levels": 1},
        {"levels": 15, "rounding": "floor"},
        {"levels": 3, "outlier_aware": False},
        {"levels": 3, "max_spikes": 2},
    ],
)
def test_pictures_are_the_dynamics(settings: dict[str, Any]) -> None:
    model = convert_tiny(MODELS["gpt2"](), time_steps=12, **settings)
    node = model.get_submodule(SITE)
    v, train = window(model, SITE)
    alpha = node.alpha(v).expand_as(v)[0, -1].numpy()
    figure = plot_membrane(model, BATCH, SITE, NEURONS)
    assert len(panels(figure)) == len(NEURONS)
    fired = 0
    for axis, neuron in zip(panels(figure), NEURONS, strict=True):
        emitted = train[:, 0, -1, neuron].numpy()
        potential = float(v[0, -1, neuron]) - np.concatenate([[0], emitted.cumsum()])
        np.testing.assert_allclose(membrane(axis), potential, atol=1e-6)
        theta = alpha[neuron] * 2.0 ** -np.arange(1, 13)
        silent, above, below = stairs(axis)
        np.testing.assert_allclose(above, theta, rtol=1e-6)
        np.testing.assert_allclose(below, -theta, rtol=1e-6)
        marked = spikes(axis)
        assert set(marked) == {(step + 1, int(np.sign(emitted[step]))) for step in np.flatnonzero(emitted)}
        np.testing.assert_allclose(list(marked.values()), [potential[step - 1] for step, _ in marked], atol=1e-6)
        assert set(levels(axis)) == {step for step, _ in marked}
        for step, sign in marked:
            amplitude = theta[step - 1] * (1 + levels(axis)[step] / settings["levels"])
            assert emitted[step - 1] == pytest.approx(sign * amplitude, rel=1e-5)
        if "max_spikes" not in settings:
            outside = np.abs(potential[:-1]) > silent * (1 - 1e-5)
            assert outside.tolist() == (emitted != 0).tolist()
        fired += len(marked)
    assert fired > len(NEURONS)


def test_sub_neurons_are_named(snn: Model) -> None:
    node = snn.get_submodule(SITE)
    outliers = node.outliers(window(snn, SITE)[0])[0, -1]
    chosen = [int(outliers.nonzero()[0]), int((~outliers).nonzero()[0])]
    first, second = panels(plot_membrane(snn, BATCH, SITE, chosen))
    assert first.get_title() == f"neuron {chosen[0]}: outlier sub-neuron, α = {float(node.theta_outlier):.3g}"
    assert second.get_title() == f"neuron {chosen[1]}: normal sub-neuron, α = {float(node.theta_normal):.3g}"
    for axis, theta in ((first, node.theta_outlier), (second, node.theta_normal)):
        assert stairs(axis)[1][0] == pytest.approx(float(theta) / 2)


def test_thresholds_of_channels(snn: Model) -> None:
    node = snn.get_submodule(SITE)
    node.theta_normal.data = torch.linspace(0.5, 2, 32)
    node.theta_outlier.data = torch.linspace(5, 9, 32)
    v, _ = window(snn, SITE)
    alpha = node.alpha(v)[0, -1]
    for axis, neuron in zip(panels(plot_membrane(snn, BATCH, SITE, NEURONS)), NEURONS, strict=True):
        assert stairs(axis)[1][0] == pytest.approx(float(alpha[neuron]) / 2)


def test_other_tokens_and_heads(snn: Model) -> None:
    v, _ = window(snn, QUERY)  # [B, H, S, D]
    (axis,) = panels(plot_membrane(snn, BATCH, QUERY, [5], token=3))
    assert membrane(axis)[0] == pytest.approx(float(v[0, -1, 3, 5]))
    v, _ = window(snn, SITE)
    (axis,) = panels(plot_membrane(snn, BATCH, SITE, [5], token=-4))
    assert membrane(axis)[0] == pytest.approx(float(v[0, -4, 5]))


def test_pooled_sites_have_one_token() -> None:
    model = convert_tiny(MODELS["bert-classifier"](), time_steps=8)
    v, _ = window(model, "classifier.input_node")  # [B, C]
    (axis,) = panels(plot_membrane(model, BATCH, "classifier.input_node", [2]))
    assert membrane(axis)[0] == pytest.approx(float(v[0, 2]))
    with pytest.raises(ValueError, match=r"token must lie in -1 … 0 for classifier.input_node, got 1"):
        plot_membrane(model, BATCH, "classifier.input_node", [2], token=1)


@pytest.mark.parametrize("count", [1, 3, 8, 12])
def test_legible(snn: Model, count: int) -> None:
    figure = plot_membrane(snn, BATCH, SITE, range(count))
    assert not overlaps(figure)
    assert all(axis.get_ylabel() == "membrane potential" for axis in panels(figure))
    (legend,) = figure.legends
    boxes = [axis.get_window_extent() for axis in panels(figure)]
    assert not any(legend.get_window_extent().overlaps(box) for box in boxes)


def test_saved(snn: Model, tmp_path: Path) -> None:
    figure = plot_membrane(snn, BATCH, SITE)
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        figure.savefig(tmp_path / f"membrane.{kind}")
        assert (tmp_path / f"membrane.{kind}").read_bytes().startswith(start)


@pytest.mark.parametrize("site", ["nowhere", "all", "transformer.h.0.mlp.act.node"])
def test_unknown_sites(snn: Model, site: str) -> None:
    with pytest.raises(ValueError, match=f"named_sites.*no coding neurons of that name: {site}$"):
        plot_membrane(snn, BATCH, site)


@pytest.mark.parametrize(
    ("neurons", "message"),
    [
        ([0, 32], "has 32 neurons and no neuron 32: choose of 0 … 31"),
        ([32], "has 32 neurons: choose one of 0 … 31"),
        ([], "neurons must be different indices"),
        ([-1], "neurons must be different indices"),
        (range(13), "neurons must be at most 12, got 13"),
    ],
)
def test_impossible_neurons(snn: Model, neurons: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_membrane(snn, BATCH, SITE, neurons)
    assert all(site.node.recorder is None for _, site in named_sites(snn))


@pytest.mark.parametrize("token", [10, -11])
def test_impossible_tokens(snn: Model, token: int) -> None:
    with pytest.raises(ValueError, match=rf"token must lie in -10 … 9 for {SITE}, got {token}"):
        plot_membrane(snn, BATCH, SITE, token=token)


def test_accumulated_execution_has_no_steps(snn: Model) -> None:
    las_sj.set_execution(snn, "accumulated")
    with pytest.raises(ValueError, match=r"temporal execution.*set_execution"):
        plot_membrane(snn, BATCH, SITE)
