"""Counts, audit and energy of real weights on real text."""

import copy

import pytest
import torch
from encoder import CALIBRATION, EVALUATION
from real_models import DATA, minilm, padded_batches, sentences, smollm2, to_double
from torch import Tensor
from transformers import PreTrainedModel

import las_sj
from las_sj.analysis import SpikeMonitor, audit, energy_report

LAYERS = 10
Batches = list[dict[str, Tensor]]

needs_data = pytest.mark.skipif(not DATA.exists(), reason="needs the evaluation data in ../shared/data")
pytestmark = needs_data


@pytest.fixture(scope="module", params=["minilm", "smollm2"])
def real(request: pytest.FixtureRequest) -> tuple[PreTrainedModel, PreTrainedModel, Batches]:
    """The original, its conversion at T = 12, and a few sentences; of SmolLM2's thirty layers that are alike, ten."""
    try:
        ann, tokenizer = minilm() if request.param == "minilm" else smollm2()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    if request.param == "smollm2":
        del ann.model.layers[LAYERS:]
        ann.config.num_hidden_layers = LAYERS
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    texts = sentences()
    calibration = padded_batches(tokenizer, texts[CALIBRATION][:32])
    evaluation = padded_batches(tokenizer, texts[EVALUATION][:2])
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(time_steps=12), calibration)
    return ann, snn, evaluation


def counts_of(model: PreTrainedModel, execution: str, batch: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    las_sj.set_execution(model, execution)
    with torch.no_grad(), SpikeMonitor(model) as monitor:
        model(**batch)
    return {
        name: (counts.neurons, counts.spikes, counts.synaptic_operations, counts.outliers)
        for name, counts in monitor.sites.items()
    }


def test_counts_are_equal_in_double_precision(real: tuple[PreTrainedModel, PreTrainedModel, Batches]) -> None:
    snn = to_double(real[1])
    assert counts_of(snn, "temporal", real[2][0]) == counts_of(snn, "accumulated", real[2][0])


def test_counts_agree_in_single_precision(real: tuple[PreTrainedModel, PreTrainedModel, Batches]) -> None:
    temporal, accumulated = (counts_of(real[1], execution, real[2][0]) for execution in ("temporal", "accumulated"))
    assert {name: counts[0] for name, counts in temporal.items()} == {
        name: counts[0] for name, counts in accumulated.items()
    }
    spikes = [sum(counts[1] for counts in each.values()) for each in (temporal, accumulated)]
    print(f"spikes: {spikes[0]:,} temporal, {spikes[1]:,} accumulated")
    assert abs(spikes[0] / spikes[1] - 1) <= 5e-3
    for name, (neurons, count, *_) in accumulated.items():
        # A last digit that differs draws the finest bits of a neuron anew; in a small population that shows.
        assert abs(temporal[name][1] - count) <= 5e-3 * count + 10 * neurons**0.5, name


def test_audit(real: tuple[PreTrainedModel, PreTrainedModel, Batches]) -> None:
    """Nothing analog in the converted model; in the original, the MACs that its energy is priced by."""
    ann, snn, evaluation = real
    short = {name: value[:1, :6] for name, value in evaluation[0].items()}
    found = audit(snn, short)
    assert found.analog == []
    assert found.fully_spike_driven
    las_sj.set_execution(snn, "temporal")
    with torch.no_grad(), SpikeMonitor(snn) as monitor:
        snn(**short)
    rows = {row.name: row.operations for row in energy_report(monitor).rows}
    linear = [row for row in audit(ann, short).analog if "mm" in row.operator]
    assert len(linear) > 30
    for row in linear:
        assert rows[row.module].macs == row.count, row.module
    assert sum(row.macs for row in rows.values() if row.kind in ("projection", "head")) == sum(
        row.count for row in linear
    )
    spiking = {row.module: row.count for row in found.rows if row.kind == "spike × weight" and "mm" in row.operator}
    assert spiking == {name: rows[name].synaptic_operations for name in spiking}
    assert len(spiking) == len(linear)
