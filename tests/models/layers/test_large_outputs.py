"""Outputs in memory that is used again are those that torch would have allocated, in inference and in training."""

import pytest
import torch
from transformers import BertConfig, BertModel

import las_sj
from las_sj.neurons.buffers import BUFFERS

IDS = torch.arange(24).view(2, 12)
ALL, NONE = 1, 1 << 60  # bytes from which tensors lie in kept memory


@pytest.fixture(scope="module")
def snn() -> BertModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertModel(BertConfig(**sizes, vocab_size=32)).eval()
    return las_sj.convert(model, las_sj.LASConfig(time_steps=8), [{"input_ids": IDS}])


@pytest.mark.parametrize("execution", ["temporal", "accumulated"])
def test_values(snn, monkeypatch, execution):
    las_sj.set_execution(snn, execution)
    outputs = []
    for least in (NONE, ALL, ALL):
        monkeypatch.setattr(BUFFERS, "least_bytes", least)
        with torch.no_grad():
            outputs.append(snn(IDS).last_hidden_state)
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


def test_gradients(snn, monkeypatch):
    las_sj.set_execution(snn, "temporal")
    found = []
    for least in (NONE, ALL):
        monkeypatch.setattr(BUFFERS, "least_bytes", least)
        snn.zero_grad()
        snn(IDS).last_hidden_state.square().sum().backward()
        found.append(snn.encoder.layer[0].output.dense.weight.grad.clone())
    assert float(found[0].abs().max()) > 0
    assert torch.equal(*found)


def test_autocast_chooses_the_type(snn, monkeypatch):
    monkeypatch.setattr(BUFFERS, "least_bytes", ALL)
    layer = snn.encoder.layer[0].intermediate.dense
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(2, 3, 16)).dtype == torch.bfloat16
