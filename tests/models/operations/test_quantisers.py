"""Quantised activations in models that are converted by operations."""

import copy

import pytest
import torch
from fully_spiking_models import LEVELS, MODELS, fully_spiking, quantised, quantisers_of
from tiny_models import EXECUTIONS, calibration_batches, relative_error, run, token_ids
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

import las_sj
from las_sj.analysis import SpikeMonitor, audit
from las_sj.models import UnsupportedModelError
from las_sj.neurons.rate_coded import QCFSQuantizer


def test_a_known_family_by_operations() -> None:
    ann = quantised(MODELS["gpt2"]())
    config = las_sj.LASConfig(time_steps=16, by_operations=True)
    snn = las_sj.convert(copy.deepcopy(ann), config, calibration_batches())
    ids = token_ids()
    with torch.no_grad():
        expected = ann(ids).logits
    for execution in EXECUTIONS:
        assert relative_error(run(snn, execution, input_ids=ids).logits, expected) < 1e-3
    assert snn.las_coverage.spiking["QCFSQuantizer"] == 2
    assert audit(snn, {"input_ids": token_ids(1, 4)}).fully_spike_driven


def test_a_plain_module() -> None:
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(8, 16), QCFSQuantizer(torch.full((16,), 0.9), LEVELS), nn.Linear(16, 4)).eval()
    x = torch.randn(64, 8)
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(time_steps=16), [{"input": x}])
    with torch.no_grad():
        expected = ann(x)
    for execution in EXECUTIONS:
        with SpikeMonitor(snn) as monitor:
            assert relative_error(run(snn, execution, input=x), expected) < 1e-2
        spikes = ann[1](ann[0](x)) * LEVELS / 0.9
        assert abs(monitor.sites["1.node"].spikes - float(spikes.detach().sum())) <= 4  # levels that rounding flips


def test_a_model_of_no_known_family() -> None:
    """Fully spiking rate codes are not for those of transformers alone that have a family here."""
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3)
    ann = ResNetForImageClassification(config).eval()
    batches = [{"pixel_values": torch.randn(2, 3, 32, 32)}]
    snn = las_sj.convert(
        copy.deepcopy(ann), las_sj.FASConfig(levels=LEVELS, time_steps=16, fully_spiking=True), batches
    )
    assert len(quantisers_of(snn)) == snn.las_coverage.spiking["QCFSQuantizer"] > 0
    assert snn.config.quantization_config.settings.fully_spiking
    first, second = (run(snn, execution, **batches[0]).logits for execution in EXECUTIONS)
    assert relative_error(first, second) < 1e-2


def test_one_that_stays_analog() -> None:
    ann = quantised(MODELS["gpt2"]())
    kept = "transformer.h.0.mlp.act"
    config = las_sj.LASConfig(by_operations=True, keep_analog=(kept,))
    snn = las_sj.convert(copy.deepcopy(ann), config, calibration_batches())
    assert list(snn.las_coverage.analog) == [kept]
    ids = token_ids()
    with torch.no_grad():
        expected = ann(ids).logits
    for execution in EXECUTIONS:
        assert relative_error(run(snn, execution, input_ids=ids).logits, expected) < 1e-3


def test_rate_codes_need_an_activation() -> None:
    model = MODELS["gpt2"]()
    for block in model.transformer.h:
        block.mlp.act = nn.Identity()
    with pytest.raises(UnsupportedModelError, match="no activation module"):
        fully_spiking(model)
