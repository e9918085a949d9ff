"""plot_raster draws the spikes that the neurons emit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from tiny_models import MODELS, convert_tiny, run, token_ids
from torch import Tensor, nn
from transformers import PreTrainedModel

import las_sj
from las_sj.analysis import plot_raster
from las_sj.models import named_sites

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
    assert torch.equal(run(snn, "temporal", **BATCH).logits, expected)


def test_not_converted() -> None:
    with pytest.raises(ValueError, match="not a converted model"):
        plot_raster(MODELS["gpt2"](), BATCH)
