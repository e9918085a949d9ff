"""Audit, monitor, energy and rasters of models that were converted by operations."""

import copy
from typing import Any

import pytest
import torch
from tiny_operations import KINDS, Subject, T, audited, converted, monitored, run_monitored
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import las_sj
from las_sj.analysis import audit, describe_network, energy_report, plot_raster
from las_sj.analysis.auditing.classes import SPIKE_WEIGHT
from las_sj.analysis.energies.operations import MAC_KINDS, count_operations
from las_sj.models import named_sites


@pytest.fixture(params=KINDS)
def subject(request: pytest.FixtureRequest) -> Subject:
    return converted(request.param)


@pytest.mark.parametrize("execution", ["accumulated", "temporal"])
def test_macs_are_those_of_an_independent_counter(subject: Subject, execution: str) -> None:
    """PyTorch counts matrix products and convolutions, two operations a MAC."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        subject.ann(**subject.batch)
    rows = count_operations(monitored(subject.kind, execution))
    assert sum(row.macs for row in rows) == counter.get_total_flops() / 2
    assert {row.kind for row in rows if row.macs} <= set(MAC_KINDS)


def test_synapses_of_weights_are_those_that_the_audit_sees(subject: Subject) -> None:
    """The audit counts the additions that each spike causes, at the edges of images too."""
    found = [row for row in audited(subject.kind).rows if row.kind == SPIKE_WEIGHT]
    counted = sum(row.count for row in found if row.operator in ("mm", "addmm", "convolution"))
    rows = count_operations(monitored(subject.kind, "temporal"))
    named = ("linear_", "conv", "matmul_")  # weights that experts choose are products of matrices in the audit
    layers = [row for row in rows if row.kind == "projection" and row.name.rpartition(".")[2].startswith(named)]
    assert sum(row.synaptic_operations for row in layers) == counted > 0


def test_every_operation_is_spike_driven(subject: Subject) -> None:
    found = audited(subject.kind)
    assert [str(row) for row in found.analog] == []
    assert found.fully_spike_driven
    assert found.time_steps == T


def test_populations_are_counted(subject: Subject) -> None:
    monitor = monitored(subject.kind, "temporal")
    again = monitored(subject.kind, "accumulated")
    reached = {name: counts for name, counts in monitor.sites.items() if counts.neurons}
    assert set(monitor.sites) == {name for name, _ in named_sites(subject.snn)}
    assert len(reached) > 0.5 * len(monitor.sites)  # the others are of calls with a cache
    for name, counts in reached.items():
        assert counts.neurons == again.sites[name].neurons
        assert ".spiking." in f".{name}"
    assert 0.3 < monitor.spikes_per_neuron < 3.0
    assert monitor.spikes_per_neuron == pytest.approx(again.spikes_per_neuron, rel=1e-2)
    assert set(monitor.train_sample.trains()) <= set(monitor.sites)
    report = energy_report(monitor)
    assert 0.0 < report.ratio("paper") < 10.0
    assert report.total_pj("level_aware", "snn") > 0.0
    assert describe_network(monitor, 1).neurons > 0


def test_raster(subject: Subject, tmp_path: Any) -> None:
    las_sj.set_execution(subject.snn, "temporal")
    figure = plot_raster(subject.snn, subject.batch, neurons=[0, 1])
    assert figure.axes


class Capped(nn.Module):
    """A user's own module."""

    def __init__(self, cap: Any) -> None:
        super().__init__()
        self.cap = cap
        self.convolution = nn.Conv2d(3, 4, 3, padding=1, stride=2)
        self.head = nn.Linear(4, 5)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.convolution(image).relu().mean((2, 3)))


def test_a_plain_module_is_counted() -> None:
    ann, image = Capped(None), torch.randn(2, 3, 8, 8)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        ann(image)
    snn = las_sj.convert(ann, las_sj.LASConfig(time_steps=T), [{"image": image}])
    monitor = run_monitored(snn, "temporal", {"image": image})
    rows = {row.name: row for row in count_operations(monitor)}
    assert sum(row.macs for row in rows.values()) == counter.get_total_flops() / 2
    assert rows["head.linear_1"].macs == 2 * 4 * 5
    assert rows["head.linear"].additions == 2 * 5
    assert rows["mean"].additions == 2 * 4 * 4 * 4
    assert monitor.samples == 2
    assert audit(snn, {"image": image}).fully_spike_driven


class Pooled(nn.Module):
    """A learned query attends to its input, as in the pooling head of SigLIP."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 3, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.attention(self.query.repeat(len(x), 1, 1), x, x)[0]
        return output


@pytest.mark.parametrize("execution", ["accumulated", "temporal"])
def test_macs_of_constants_are_counted_once_a_call(execution: str) -> None:
    torch.manual_seed(0)
    ann, x = Pooled(), torch.randn(5, 4, 8)
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(time_steps=T), [{"x": x}])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        ann(x)
    rows = count_operations(run_monitored(snn, execution, {"x": x}))
    assert sum(row.macs for row in rows) == counter.get_total_flops() / 2
    assert [(row.name, row.macs, row.analog_macs) for row in rows if row.kind == "constant"] == [
        ("attention.linear of constants", 5 * 3 * 8 * 8, 5 * 3 * 8 * 8)
    ]


def test_tanh_after_the_readout_is_named() -> None:
    """A hook outside of the network's call works on sums, where the structure check sees nothing."""
    snn = las_sj.convert(Capped(None), las_sj.LASConfig(time_steps=T), [{"image": torch.randn(2, 3, 8, 8)}])
    snn.register_forward_hook(lambda module, args, output: torch.tanh(output))
    found = audit(snn, {"image": torch.randn(2, 3, 8, 8)})
    assert [row.operator for row in found.analog] == ["tanh"]
    assert "test_models_converted_by_operations.py:" in found.analog[0].place
