"""What is counted, priced, kept and drawn of quantised activations in fully spiking networks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fully_spiking_models import FED, LEVELS, MODELS, fully_spiking
from tiny_models import EXECUTIONS, Model, padding_mask, run, token_ids

import las_sj
from las_sj.analysis import SpikeMonitor, audit, describe_network, energy_report, load_trains
from las_sj.analysis.plots.histogram import plot_activation_histogram
from las_sj.analysis.plots.raster import plot_raster
from las_sj.models import named_sites
from las_sj.reports.site_report import site_report

T = 12
BATCH = {"input_ids": token_ids(), "attention_mask": padding_mask("right")}
ACTIVATION, LAYER = FED["gpt2"]
WIDTH, OUT = 128, 32


@pytest.fixture(scope="module")
def snn() -> Model:
    return fully_spiking(MODELS["gpt2"](), T)


def monitored(snn: Model, execution: str, **options: int) -> SpikeMonitor:
    with SpikeMonitor(snn, **options) as monitor:
        run(snn, execution, **BATCH)
    return monitor


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_energy_is_spikes_times_the_outputs_of_the_layer_that_takes_them(snn: Model, execution: str) -> None:
    numbers: list[torch.Tensor] = []
    handle = snn.get_submodule(ACTIVATION).node.register_forward_hook(lambda node, args, y: numbers.append(y))
    monitor = monitored(snn, execution)
    handle.remove()
    emitted = numbers[0].sum(0) if execution == "temporal" else numbers[0]
    live = BATCH["attention_mask"].bool()
    spikes = round(float(emitted[live].double().sum()) * LEVELS / snn.get_submodule(ACTIVATION).theta.item())
    tokens = int(live.sum())
    report = energy_report(monitor)
    rows = {row.name: row for row in report.rows}
    counts = rows[ACTIVATION].operations
    assert rows[ACTIVATION].kind == "projection"
    assert LAYER not in rows
    assert counts.spikes == spikes > 0
    assert counts.neurons == tokens * WIDTH
    assert counts.synaptic_operations == counts.levelled_operations == spikes * OUT
    assert counts.macs == tokens * WIDTH * OUT
    assert counts.additions == tokens * OUT
    assert rows[ACTIVATION].snn_pj["paper"] == pytest.approx(0.9 * spikes * OUT)
    assert rows[ACTIVATION].ann_pj["paper"] == pytest.approx(4.6 * tokens * WIDTH * OUT)
    assert sum(row.operations.macs for row in report.rows if row.kind == "projection") == tokens * 2 * 12 * OUT * OUT


def test_spikes_of_the_activations_count_among_those_that_feed_weights(snn: Model) -> None:
    monitor = monitored(snn, "accumulated")
    feeding = [counts for counts in monitor.sites.values() if counts.site.feeds == "weights"]
    operations = sum(counts.spikes * counts.site.fan_out for counts in feeding)
    synapses = sum(counts.neurons * counts.site.fan_out for counts in feeding)
    assert monitor.spikes_per_neuron == pytest.approx(operations / synapses)
    site = monitor.sites[f"{ACTIVATION}.node"]
    assert site in feeding
    assert set(site.trains.levels) == {1}
    assert site_report(ACTIVATION, site).thresholds == {"theta": snn.get_submodule(ACTIVATION).theta.item()}


def test_the_population_is_described(snn: Model) -> None:
    monitor = monitored(snn, "accumulated")
    network = describe_network(monitor, audit(snn, {"input_ids": token_ids(1, 3)}).stages)
    found = {site.name: site for site in network.populations}[f"{ACTIVATION}.node"]
    assert (found.neuron, found.feeds, found.sub_neurons, found.low) == ("IF", "weights", 1, 0.0)
    assert found.thresholds == {"theta": found.high}
    json.dumps(network.to_dict())
    assert "IF" in network.to_markdown()


def test_kept_trains_are_what_was_emitted(snn: Model, tmp_path: Path) -> None:
    emitted: list[torch.Tensor] = []
    handle = snn.get_submodule(ACTIVATION).node.register_forward_hook(lambda node, args, y: emitted.append(y))
    monitor = monitored(snn, "temporal", keep_trains=40)
    handle.remove()
    assert monitor.train_sample is not None
    monitor.train_sample.save(tmp_path / "trains.npz")
    kept = monitor.train_sample.trains()
    loaded = load_trains(tmp_path / "trains.npz")
    expected = emitted[0].flatten(1)[:, torch.from_numpy(kept[f"{ACTIVATION}.node"].index)].numpy()
    for trains in (kept[f"{ACTIVATION}.node"], loaded[f"{ACTIVATION}.node"]):
        np.testing.assert_allclose(trains.values(), expected, rtol=1e-6)
        assert (trains.levels, trains.halves, trains.level.max(), trains.negative.any()) == (1, False, 0, False)
        assert trains.fired.any()
    others = [trains for name, trains in loaded.items() if not name.startswith(ACTIVATION)]
    assert any(trains.halves for trains in others)


def test_pictures_have_all_sites_that_they_can_show(snn: Model) -> None:
    las_sj.set_execution(snn, "temporal")
    batch = {"input_ids": token_ids(1, 6)}
    sites = [name for name, site in named_sites(snn) if site.feeds == "weights"]
    assert plot_raster(snn, batch, sites).axes
    assert plot_activation_histogram(snn, batch).axes
    with pytest.raises(ValueError, match="without base thresholds: leave it out"):
        plot_activation_histogram(snn, batch, [f"{ACTIVATION}.node"])
