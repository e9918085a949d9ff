"""The answer to "where are the spiking neurons?"."""

import json

import pytest
from tiny_models import MODELS, convert_tiny, run, token_ids

from las_sj.analysis import SpikeMonitor, audit, describe_network
from las_sj.models import named_sites
from las_sj.neurons import HGNode

T = 6


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_populations(name: str) -> None:
    snn = convert_tiny(MODELS[name](), time_steps=T)
    with SpikeMonitor(snn) as monitor:
        run(snn, "accumulated", input_ids=token_ids(2, 9))
    stages = audit(snn, {"input_ids": token_ids(1, 3)}).stages
    network = describe_network(monitor, stages)
    assert [site.name for site in network.populations] == [site_name for site_name, _ in named_sites(snn)]
    assert network.tokens == 9
    assert network.latency_steps == stages * T
    for site, (_, expected) in zip(network.populations, named_sites(snn), strict=True):
        if isinstance(expected.node, HGNode):
            assert (site.neuron, site.sub_neurons) == ("HG", expected.node.sub_neurons)
            assert site.stored_lines == expected.node.stored_lines
            assert (site.low, site.high) == (expected.node.low, expected.node.high)
            assert site.table_bytes == sum(t.numel() * t.element_size() for t in expected.node.buffers()) > 0
        else:
            assert (site.neuron, site.sub_neurons, site.table_bytes, site.stored_lines) == ("OAT", 2, 0, 0)
            assert site.thresholds == {key: float(value) for key, value in expected.node.named_parameters()}
    width = [site.neurons for site in network.populations if site.name.endswith("centred_node")]
    assert set(width) == {9 * 32}
    json.dumps(network.to_dict())
    assert f"{network.latency_steps:,} time steps" in network.to_markdown()


def test_single_threshold_neurons_have_no_sub_neurons() -> None:
    snn = convert_tiny(MODELS["bert"](), time_steps=T, outlier_aware=False)
    with SpikeMonitor(snn) as monitor:
        run(snn, "accumulated", input_ids=token_ids())
    network = describe_network(monitor, 3)
    assert {(site.neuron, site.sub_neurons) for site in network.populations if site.neuron != "HG"} == {("MT", 1)}


def test_nothing_seen() -> None:
    with pytest.raises(ValueError, match="has seen no call"):
        describe_network(SpikeMonitor(convert_tiny(MODELS["bert"](), time_steps=2)), 1)
