"""plot_raster draws the spikes that the neurons emit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pictures import drawn_texts, overlaps
from tiny_models import MODELS, convert_tiny, gpt2, padding_mask, run, token_ids
from torch import Tensor, nn
from transformers import PreTrainedModel

import las_sj
from las_sj.analysis import plot_raster
from las_sj.models import named_sites
from las_sj.neurons import HGNode

BATCH = {"input_ids": token_ids()}
SITE = "transformer.h.1.mlp.c_fc.input_node"


@pytest.fixture
def snn() -> PreTrainedModel:
    return convert_tiny(MODELS["gpt2"](), time_steps=12, levels=3)


def marks(figure: Figure, panel: int = 0) -> dict[str, set[tuple[int, int]]]:
    """(step, neuron) of each kind of spike."""
    return {
        str(collection.get_label()): {(round(x), round(y)) for x, y in np.asarray(collection.get_offsets())}
        for collection in figure.axes[panel].collections
    }


def test_marks_are_spikes(snn: PreTrainedModel) -> None:
    trains: list[Tensor] = []
    potentials: list[Tensor] = []

    def hook(module: nn.Module, args: Any, train: Tensor) -> None:
        trains.append(train[:, 0, -1, :48])  # the last token of the first sequence
        potentials.append(args[0].sum(0)[0, -1, :48])

    node = snn.get_submodule(SITE)
    handle = node.register_forward_hook(hook)
    figure = plot_raster(snn, BATCH, [SITE])
    handle.remove()
    outlier = potentials[0].abs() > node.get_parameter("theta_normal")
    assert bool(outlier.any())
    assert not bool(outlier.all())
    expected = {
        "positive": (trains[0] > 0) & ~outlier,
        "negative": (trains[0] < 0) & ~outlier,
        "outlier, positive": (trains[0] > 0) & outlier,
        "outlier, negative": (trains[0] < 0) & outlier,
    }
    drawn = marks(figure)
    assert drawn == {
        label: {(int(step) + 1, int(neuron)) for step, neuron in spikes.nonzero()} for label, spikes in expected.items()
    }
    assert sum(len(spikes) for spikes in drawn.values()) > 20


def test_sites_that_feed_weights_by_default(snn: PreTrainedModel) -> None:
    figure = plot_raster(snn, BATCH)
    assert isinstance(figure, Figure)
    titles = [axis.get_title().replace("\n", ".") for axis in figure.axes if axis.get_title()]
    feeding = [name for name, site in named_sites(snn) if site.feeds == "weights"]
    assert 1 < len(titles) <= 8
    assert set(titles) <= set(feeding)
    assert titles == sorted(titles, key=feeding.index)


@pytest.mark.parametrize("name", ["bert", "bert-classifier", "llama"])
def test_every_site_of_other_families(name: str, tmp_path: Path) -> None:
    model = convert_tiny(MODELS[name](), time_steps=6, outlier_aware=name != "llama")
    sites = [site_name for site_name, site in named_sites(model) if site.feeds != "neuron"]
    sites = [site for site in sites if not site.endswith(("square_node", "exp_node", "rsqrt_node", "node.node"))]
    figure = plot_raster(model, BATCH, sites[:12])
    assert len([axis for axis in figure.axes if axis.get_title()]) == 12
    figure.savefig(tmp_path / "raster.png")
    assert (tmp_path / "raster.png").read_bytes().startswith(b"\x89PNG")


def test_accumulated_execution_has_no_trains(snn: PreTrainedModel) -> None:
    las_sj.set_execution(snn, "accumulated")
    with pytest.raises(ValueError, match=r"temporal execution.*set_execution"):
        plot_raster(snn, BATCH)


@pytest.mark.parametrize("site", ["nowhere", "transformer.h.0", "transformer.h.0.mlp.act.node", ""])
def test_unknown_sites(snn: PreTrainedModel, site: str) -> None:
    with pytest.raises(ValueError, match=f"no coding neurons of that name: {site}$"):
        plot_raster(snn, BATCH, [SITE, site])


def test_no_sites(snn: PreTrainedModel) -> None:
    with pytest.raises(ValueError, match="no site"):
        plot_raster(snn, BATCH, [])


def test_nothing_stays(snn: PreTrainedModel) -> None:
    expected = run(snn, "temporal", **BATCH).logits
    plot_raster(snn, BATCH)
    with pytest.raises(IndexError):
        plot_raster(snn, {"input_ids": token_ids() + 1000})
    assert all(site.node.recorder is None for _, site in named_sites(snn))
    plot_raster(snn, BATCH | {"attention_mask": padding_mask("right")}, "all")
    assert all(site.node.counts.last is None for _, site in named_sites(snn))
    assert torch.equal(run(snn, "temporal", **BATCH).logits, expected)


def test_not_converted() -> None:
    with pytest.raises(ValueError, match="not a converted model"):
        plot_raster(MODELS["gpt2"](), BATCH)


# Neurons and sites


def last_token(x: Tensor) -> Tensor:
    """[..., S, C] to [C]: of the last head; [C] of a pooled sequence stays."""
    return torch.atleast_2d(x)[..., -1, :].reshape(-1, x.shape[-1])[-1]


def windows(model: PreTrainedModel) -> dict[str, tuple[Tensor, Tensor]]:
    """(membrane potential [C], train [T, C]) of the last token of the first sequence, by coding site."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def hook(name: str) -> Any:
        def record(module: nn.Module, args: Any, train: Tensor) -> None:
            rows = torch.stack([last_token(step[0]) for step in train])
            seen.setdefault(name, (last_token(args[0].sum(0)[0]), rows))

        return record

    nodes = [(name, site.node) for name, site in named_sites(model) if not isinstance(site.node, HGNode)]
    handles = [node.register_forward_hook(hook(name)) for name, node in nodes]
    run(model, "temporal", **BATCH)
    for handle in handles:
        handle.remove()
    return {name: seen[name] for name, _ in nodes}


def test_chosen_neurons(snn: PreTrainedModel) -> None:
    chosen = [30, 3, 7, 12]
    _, train = windows(snn)[SITE]
    figure = plot_raster(snn, BATCH, [SITE], chosen)
    expected = {(int(step) + 1, int(row)) for step, row in train[:, chosen].nonzero()}
    drawn = marks(figure)
    assert set().union(*drawn.values()) == expected
    assert len(expected) == sum(len(spikes) for spikes in drawn.values()) > 0
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["30", "3", "7", "12"]


def test_sites_show_the_neurons_that_they_have(snn: PreTrainedModel) -> None:
    scale = "transformer.h.0.ln_1.scale_node"
    figure = plot_raster(snn, BATCH, [SITE, scale], [0, 5])
    assert len(figure.axes[0].get_yticks()) == 2
    assert len(figure.axes[1].get_yticks()) == 1
    with pytest.raises(ValueError, match=rf"{scale} has 1 neurons: choose one of 0 … 0, or leave the site out"):
        plot_raster(snn, BATCH, [SITE, scale], [4, 5])
    assert all(site.node.recorder is None for _, site in named_sites(snn))


@pytest.mark.parametrize("neurons", [[], [-1], [0, 0]])
def test_impossible_neurons(snn: PreTrainedModel, neurons: list[int]) -> None:
    with pytest.raises(ValueError, match="neurons must be different indices of the last dimension, 0 or more"):
        plot_raster(snn, BATCH, [SITE], neurons)


def test_one_name_is_no_list(snn: PreTrainedModel) -> None:
    with pytest.raises(ValueError, match='sites must be a list of names, "all" or None'):
        plot_raster(snn, BATCH, SITE)


def test_a_site_that_the_call_does_not_reach(snn: PreTrainedModel) -> None:
    dict(named_sites(snn))[SITE].node.bypass = True  # codes nothing, so there is nothing to record
    with pytest.raises(ValueError, match=f"did not reach the neurons of {SITE}"):
        plot_raster(snn, BATCH, [SITE])


def test_other_recorders_stay(snn: PreTrainedModel) -> None:
    calls: list[int] = []
    node = dict(named_sites(snn))[SITE].node
    node.recorder = recorder = lambda *_: calls.append(1)
    plot_raster(snn, BATCH, [SITE])
    assert node.recorder is recorder
    assert not calls


# Bands


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert-classifier"])
def test_bands_show_all_sites(name: str) -> None:
    model = convert_tiny(MODELS[name](), time_steps=10, levels=3)
    expected: dict[str, set[tuple[int, int, int]]] = {}  # (step, site, neuron)
    for band, (site, (potential, train)) in enumerate(windows(model).items()):
        shown = train[:, :16]
        outlier = model.get_submodule(site).outliers(potential)[:16]
        for label, spikes in (("positive", shown > 0), ("negative", shown < 0)):
            for kind, members in ((label, ~outlier), (f"outlier, {label}", outlier)):
                found = {(int(step) + 1, band, int(neuron)) for step, neuron in (spikes & members).nonzero()}
                expected.setdefault(kind, set()).update(found)
    assert all(expected.values())
    figure = plot_raster(model, BATCH, "all")
    (axis,) = figure.axes
    widths = [min(len(potential), 16) for potential, _ in windows(model).values()]
    drawn: dict[str, set[tuple[int, int, int]]] = {}
    for collection in axis.collections:
        for step, y in np.asarray(collection.get_offsets()):
            neuron = (y - int(y)) * widths[int(y)] - 0.5  # a band's neurons share it evenly
            assert neuron == pytest.approx(round(neuron), abs=1e-3)
            drawn.setdefault(str(collection.get_label()), set()).add((round(step), int(y), round(neuron)))
    assert drawn == expected
    assert axis.get_ylim() == (len(widths), 0)


def test_bands_are_named_and_shaded(snn: PreTrainedModel) -> None:
    names = list(windows(snn))
    figure = plot_raster(snn, BATCH, names)
    (axis,) = figure.axes
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels[:2] == ["ln_1.centred", "ln_1.scale"]
    assert labels[names.index("transformer.h.1.attn.las_attention.query_node")] == "attn.query"
    texts = dict(drawn_texts(figure))
    assert {"h.0", "h.1", "ln_f", "lm_head"} <= set(texts)
    assert texts["h.0"].y0 > texts["h.1"].y0 > texts["ln_f"].y0 > texts["lm_head"].y0
    shaded = [shade.get_y() for shade in axis.patches if isinstance(shade, Rectangle)]
    assert shaded == list(range(1, len(names), 2))
    assert not overlaps(figure)


def test_two_hundred_sites_are_legible(tmp_path: Path) -> None:
    model = convert_tiny(gpt2(n_layer=13), time_steps=8, levels=3)
    figure = plot_raster(model, BATCH, "all")
    (axis,) = figure.axes
    assert len(axis.get_yticks()) == 212  # each named
    assert not overlaps(figure)
    assert min(float(label.get_fontsize()) for label in axis.get_yticklabels()) >= 6
    assert max(figure.get_size_inches()) < 30
    legend = axis.get_legend()
    assert legend is not None
    assert not legend.get_window_extent().overlaps(axis.get_window_extent())
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        figure.savefig(tmp_path / f"raster.{kind}", dpi=40)
        assert (tmp_path / f"raster.{kind}").read_bytes().startswith(start)


def test_panels_do_not_overlap(snn: PreTrainedModel) -> None:
    assert not overlaps(plot_raster(snn, BATCH, list(windows(snn))[:12]))
