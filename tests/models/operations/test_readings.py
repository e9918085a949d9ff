"""A current that several operations need as spikes is coded once, and the others read them."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, PreTrainedConfig, PreTrainedModel

import las_sj
from las_sj.analysis import SpikeMonitor
from las_sj.analysis.energies.operations import Operations, count_operations
from las_sj.models import named_sites
from las_sj.models.operations.coded import Coded, Source, coded_of, keep_coded, read
from las_sj.models.operations.model import named_readings

EXECUTIONS = ("accumulated", "temporal")
ATTENTION = "encoder.layer.0.attention.self"


def bert() -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48, pad_token_id=0
    )
    return BertModel(config).eval()


def padded(seed: int) -> dict[str, Tensor]:
    ids = torch.randint(3, 60, (2, 9), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture(scope="module")
def networks() -> dict[str, Any]:
    """The same model by the layers of its family, and by operations."""
    ann = bert()
    return {
        way: las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(time_steps=8, by_operations=by), [padded(1)])
        for way, by in (("layers", False), ("operations", True))
    }


def sources(model: nn.Module) -> dict[str, str]:
    """Names of readings, and of the populations that they read."""
    return {name: ".".join(populations.readings[site.name].source) for name, populations, site in named_readings(model)}


def test_queries_keys_and_values_have_one_coder(networks: dict[str, Any]) -> None:
    found = sources(networks["operations"])
    assert found[f"{ATTENTION}.key.spiking.linear_1"] == f"{ATTENTION}.query.linear_1"
    assert found[f"{ATTENTION}.value.spiking.linear_1"] == f"{ATTENTION}.query.linear_1"
    sites = dict(named_sites(networks["operations"]))
    assert not set(found) & set(sites)
    ours = sites[f"{ATTENTION}.query.spiking.linear_1"].node
    theirs = dict(named_sites(networks["layers"]))[f"{ATTENTION}.input_node"].node
    assert [float(x) for x in ours.parameters()] == [float(x) for x in theirs.parameters()]


def test_probabilities_are_coded_once(networks: dict[str, Any]) -> None:
    assert sources(networks["operations"])[f"{ATTENTION}.spiking.matmul_2_left"] == f"{ATTENTION}.softmax_1_probability"


def rows_of(snn: Any, execution: str) -> list[Operations]:
    las_sj.set_execution(snn, execution)
    with SpikeMonitor(snn) as monitor, torch.no_grad():
        snn(**padded(1))
    return count_operations(monitor)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_energy_is_counted_as_in_the_layers_of_the_family(networks: dict[str, Any], execution: str) -> None:
    layers, operations = (rows_of(networks[way], execution) for way in ("layers", "operations"))
    theirs, ours = ({row.name: row for row in rows} for rows in (layers, operations))
    for name in ("query", "key", "value"):
        first, second = theirs[f"{ATTENTION}.{name}"], ours[f"{ATTENTION}.{name}.linear_1"]
        for count in ("spikes", "neurons", "macs", "synaptic_operations", "states", "activations"):
            if name == "query" or count not in ("states", "activations"):
                assert getattr(first, count) == getattr(second, count) > 0, (name, count)
            else:
                assert getattr(first, count) == getattr(second, count) == 0, (name, count)
    values, product = theirs[f"{ATTENTION}.values"], ours[f"{ATTENTION}.matmul_2"]
    assert product.macs >= values.macs  # padding among them
    assert product.synaptic_operations >= values.synaptic_operations > 0
    assert ours[f"{ATTENTION}.softmax_1"].states > 0


def test_a_monitor_counts_what_is_read(networks: dict[str, Any]) -> None:
    snn = networks["operations"]
    with SpikeMonitor(snn) as monitor, torch.no_grad():
        snn(**padded(2))
    source, reading = monitor.sites[f"{ATTENTION}.query.spiking.linear_1"], monitor.readings
    for name in ("key", "value"):
        counts = reading[f"{ATTENTION}.{name}.spiking.linear_1"]
        assert counts.spikes == source.spikes > 0
        assert counts.neurons == source.neurons == 15 * 32
        assert counts.synaptic_operations == source.spikes * 32
    assert 0 < monitor.spikes_per_neuron < 8


@torch.no_grad()
def test_outputs_are_those_of_the_layers(networks: dict[str, Any]) -> None:
    expected = bert()(**padded(2)).last_hidden_state
    for execution in EXECUTIONS:
        errors = []
        for snn in networks.values():
            las_sj.set_execution(snn, execution)
            live = padded(2)["attention_mask"].bool()
            errors.append(float((snn(**padded(2)).last_hidden_state - expected)[live].norm()))
        assert errors[1] < 1.2 * errors[0]
        with torch.inference_mode():  # where torch does not tell whether a tensor is written to
            snn = networks["operations"]
            assert torch.equal(snn(**padded(2)).last_hidden_state, snn(**padded(2)).last_hidden_state)


class Branches(nn.Module):
    """Two layers that take the same, unless it is changed before the second, or the first is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, x: Tensor, change: Any = None, both: bool = True) -> Tensor:
        x = x * 2.0
        output = self.first(x) if both else 0.0
        if change == "in place":
            x += 1.0
        if change == "through a view":
            x[:, 0] += 1.0
        if change == "another":
            x = x.flip(1)
        total: Tensor = output + self.second(x)
        return total


@pytest.mark.parametrize("change", [None, "in place", "through a view", "another"])
@pytest.mark.parametrize("calibrated", [False, True])
@torch.no_grad()
def test_changed_currents_are_coded_again(change: Any, calibrated: bool) -> None:
    """Whether or not they are changed in the calls that the operations are found in."""
    torch.manual_seed(0)
    ann, x = Branches().eval(), torch.randn(3, 5, 6)
    snn = las_sj.convert(copy.deepcopy(ann), calibration=[{"x": 2 * x, "change": change if calibrated else None}])
    assert bool(sources(snn)) == (not calibrated or change is None)
    for execution in EXECUTIONS:
        las_sj.set_execution(snn, execution)
        for both in (True, False):
            given = {"x": x, "change": change, "both": both}
            reference = ann(**given)
            with torch.inference_mode():
                inferred = snn(**given)
            for output in (snn(**given), inferred):
                assert float((output - reference).norm() / reference.norm()) < 1e-3, (execution, both)


class Part(PreTrainedModel):
    """A model that may be called by itself."""

    config_class = PreTrainedConfig

    def __init__(self) -> None:
        super().__init__(PreTrainedConfig())
        self.layer, self.other = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, inputs_embeds: Tensor) -> Tensor:
        output: Tensor = self.layer(inputs_embeds) + self.other(inputs_embeds)
        return output


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.part, self.after = nn.Linear(6, 6), Part(), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = x * 2.0
        output: Tensor = self.before(x) + self.part(inputs_embeds=x) + self.after(x)
        return output


@torch.no_grad()
def test_a_model_inside_of_another_reads_nothing_from_outside() -> None:
    torch.manual_seed(0)
    ann, x = Whole().eval(), torch.randn(3, 5, 6)
    snn = las_sj.convert(copy.deepcopy(ann), calibration=[{"x": x}])
    found = sources(snn)
    assert found["part.other.spiking.linear_1"] == "part.layer.linear_1"
    assert "part.layer.spiking.linear_1" not in found
    for execution in EXECUTIONS:
        las_sj.set_execution(snn, execution)
        for model, reference in ((snn, ann), (snn.part, ann.part)):
            expected = reference(x)
            assert float((model(x) - expected).norm() / expected.norm()) < 1e-3


def test_spikes_are_let_go_when_the_last_reader_has_them() -> None:
    x, spikes = torch.zeros(3), torch.ones(3)
    keep_coded(x, Coded(Source("a", "b"), spikes, 2))
    for _ in range(2):
        coded = coded_of(x)
        assert coded is not None
        assert read(x, coded) is spikes
    assert coded_of(x) is None
