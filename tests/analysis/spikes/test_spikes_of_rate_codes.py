"""Monitors of networks of rate codes against the trains themselves: those of this package, and of SpikingJelly."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import monitor as spikingjelly_monitor
from tiny_models import bert, gpt2, llama, padding_mask, run, token_ids
from tiny_rate_codes import METHODS, convert_to_rates, trains_of

from las_sj.analysis import SpikeMonitor, audit, describe_network, load_trains
from las_sj.models.rate_coded.network import named_activations
from las_sj.neurons.rate_coded import QCFSIFNode, RateCodedNode

SITE = "transformer.h.1.mlp.act.node"


@pytest.mark.parametrize("method", METHODS)
def test_counts_are_those_of_the_trains(method: str) -> None:
    snn = convert_to_rates(gpt2(), method=method)
    batch = {"input_ids": token_ids(), "attention_mask": padding_mask("right")}
    trains, live = trains_of(snn, **batch), padding_mask("right").bool()
    with SpikeMonitor(snn, sample=None) as monitor:
        run(snn, "temporal", **batch)
    assert monitor.tokens == int(live.sum())
    assert monitor.sites.keys() == trains.keys()
    for name, counts in monitor.sites.items():
        fired = trains[name][:, live]  # [T, N, C]
        assert len(fired) == (8 if method == "srp" else 4)
        assert (counts.neurons, counts.spikes) == (fired[0].numel(), int(fired.sum()))
        assert counts.trains.firing_rate == pytest.approx(fired.mean((1, 2)).tolist())
        assert counts.trains.silent == pytest.approx(float((fired.sum(0) == 0).float().mean()))
        assert counts.trains.levels == {1: pytest.approx(float(fired.sum(0).mean()))}
        assert counts.out_of_range == counts.outliers == 0
    assert monitor.spikes_per_neuron == pytest.approx(
        sum(counts.spikes for counts in monitor.sites.values())
        / sum(counts.neurons for counts in monitor.sites.values())
    )


def test_statistics_come_from_a_sample() -> None:
    snn = convert_to_rates(gpt2())
    trains = trains_of(snn, input_ids=token_ids())
    with SpikeMonitor(snn, sample=400) as monitor:
        run(snn, "temporal", input_ids=token_ids())
    seen = monitor.sites[SITE].trains
    assert seen.neurons == 400
    assert seen.firing_rate == pytest.approx(trains[SITE].mean((1, 2, 3)).tolist(), abs=0.08)


def test_accumulated_calls_have_no_spikes() -> None:
    snn = convert_to_rates(gpt2())
    with SpikeMonitor(snn) as monitor:
        run(snn, "accumulated", input_ids=token_ids())
    assert (monitor.tokens, monitor.sites[SITE].neurons, monitor.lane_macs) == (0, 0, {})
    with pytest.raises(ValueError, match="has seen no call"):
        describe_network(monitor, 1)


def test_as_many_spikes_as_there_can_be() -> None:
    """64 of a neuron would not fit beside a flag in a byte."""
    snn = convert_to_rates(gpt2(n_layer=1), method="srp", time_steps=32, presimulation_steps=32)
    ((name, activation),) = named_activations(snn)
    activation.node.theta.data.fill_(1e-4)
    trains = trains_of(snn, input_ids=token_ids())
    with SpikeMonitor(snn) as monitor:
        run(snn, "temporal", input_ids=token_ids())
    counts = monitor.sites[f"{name}.node"]
    assert int(trains[f"{name}.node"].sum(0).max()) == 64
    assert (counts.spikes, counts.outliers) == (int(trains[f"{name}.node"].sum()), 0)


def test_gates_are_counted_where_no_site_feeds_weights() -> None:
    snn = convert_to_rates(llama())
    trains = trains_of(snn, input_ids=token_ids())
    with SpikeMonitor(snn) as monitor:
        run(snn, "temporal", input_ids=token_ids())
    mean = sum(float(train.sum()) for train in trains.values()) / sum(train[0].numel() for train in trains.values())
    assert monitor.spikes_per_neuron == pytest.approx(mean)
    assert 0.1 < mean < 1


def test_kept_trains_carry_thresholds(tmp_path: Path) -> None:
    snn = convert_to_rates(bert(), method="srp", presimulation_steps=2)
    trains = trains_of(snn, input_ids=token_ids())
    with SpikeMonitor(snn, keep_trains=20) as monitor:
        run(snn, "temporal", input_ids=token_ids())
    assert monitor.train_sample is not None
    monitor.train_sample.save(tmp_path / "trains.npz")
    loaded = load_trains(tmp_path / "trains.npz")
    assert loaded.keys() == trains.keys()
    for name, kept in loaded.items():
        node = snn.get_submodule(name)
        expected = trains[name].flatten(1)[:, torch.from_numpy(kept.index)] * node.theta.detach()
        assert kept.values().shape == (6, 20)
        np.testing.assert_allclose(kept.values(), expected.numpy(), rtol=1e-6)
    assert any(kept.fired.any() for kept in loaded.values())


@pytest.mark.parametrize(("method", "steps"), [("fas", 4), ("srp", 7), ("cos", 7)])
def test_network(method: str, steps: int) -> None:
    """The input is presented T times, τ times before, or ρ times more to look ahead."""
    presimulation = None if method == "fas" else 3
    snn = convert_to_rates(gpt2(), method=method, presimulation_steps=presimulation)
    with SpikeMonitor(snn) as monitor:
        run(snn, "temporal", input_ids=token_ids(2, 9))
    found = audit(snn, {"input_ids": token_ids(1, 3)})
    network = describe_network(monitor, found.stages)
    assert (network.time_steps, network.stages, network.latency_steps, found.latency_steps) == (4, 2, steps, steps)
    for population in network.populations:
        theta = float(snn.get_submodule(population.name).theta.detach())
        assert (population.neuron, population.neurons, population.sub_neurons) == ("IF", 9 * 128, 1)
        assert (population.thresholds, population.low) == ({"theta": theta}, 0.0)
    assert f"latency {steps} time steps" in network.to_markdown()
    json.dumps(network.to_dict())


def test_monitors_of_spikingjelly() -> None:
    snn = convert_to_rates(gpt2())
    node = snn.get_submodule(SITE)
    assert isinstance(node, RateCodedNode)
    trains = trains_of(snn, input_ids=token_ids())
    outputs = spikingjelly_monitor.OutputMonitor(snn, RateCodedNode)
    potentials = spikingjelly_monitor.AttributeMonitor("v", False, snn, QCFSIFNode)
    node.store_v_seq = True
    histories = spikingjelly_monitor.AttributeMonitor("v_seq", False, snn, QCFSIFNode)
    with torch.no_grad():
        run(snn, "temporal", input_ids=token_ids())
    assert torch.equal(outputs[SITE][0], trains[SITE])
    assert histories[SITE][0].shape == trains[SITE].shape
    assert torch.equal(histories[SITE][0][-1], potentials[SITE][0])
    assert histories["transformer.h.0.mlp.act.node"] == [None]
    for one in (outputs, potentials, histories):
        one.remove_hooks()
    with torch.no_grad():
        snn(input_ids=token_ids())
    assert len(outputs[SITE]) == 1
