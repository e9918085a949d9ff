"""What config.json says of rate codes is held against the model: levels, and where spikes go."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import Model, bert, calibration_batches, gpt2, token_ids
from transformers import BertForSequenceClassification, BertModel, GPT2LMHeadModel, GPT2Model

import las_sj
from las_sj.models.rate_coded.network import named_activations
from las_sj.neurons.rate_coded import QCFSQuantizer

SITE = "transformer.h.0.mlp.act"


def network() -> Model:
    return las_sj.convert(gpt2(), las_sj.FASConfig(time_steps=2), calibration_batches())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"fan_out": 7},
            f"{SITE} feeds transformer.h.0.mlp.c_proj with a fan-out of 7, but that has 32 outputs of 128",
        ),
        ({"bias": False}, "with a bias: the checkpoint is broken"),
        ({"fed": "transformer.h.0.mlp.c_fc"}, "feeds transformer.h.0.mlp.c_fc .* has 128 outputs of 32 inputs"),
        ({"fed": "nix"}, "feeds 'nix', which is no linear layer of the model"),
        ({"fed": "transformer.h.0.ln_1"}, "feeds 'transformer.h.0.ln_1', which is no linear layer of the model"),
        ({"levels": 4}, f"{SITE} has 4 levels in config.json, whose settings say 8: the checkpoint is broken"),
        ({"calibrated": [64]}, "outputs of 128 inputs"),
    ],
)
def test_entries_that_do_not_fit_the_model(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    network().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"]["activations"][SITE].update(change)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        GPT2LMHeadModel.from_pretrained(tmp_path)


def test_the_model_inside_of_the_one_that_was_saved(tmp_path: Path) -> None:
    """What spikes of the pooler go to is outside of it."""
    network().save_pretrained(tmp_path / "gpt2")
    found = dict(named_activations(GPT2Model.from_pretrained(tmp_path / "gpt2")))
    assert (found["h.0.mlp.act"].fed, found["h.0.mlp.act"].consumer.fan_out) == ("h.0.mlp.c_proj", 32)
    classifier = las_sj.convert(bert(BertForSequenceClassification), las_sj.FASConfig(), calibration_batches())
    assert dict(named_activations(classifier))["bert.pooler.activation"].fed == "classifier"
    classifier.save_pretrained(tmp_path / "bert")
    assert dict(named_activations(BertModel.from_pretrained(tmp_path / "bert")))["pooler.activation"].fed == ""


def test_quantised_activations_beside_rate_codes(tmp_path: Path) -> None:
    """A site that no pattern names stays an activation of the ANN, of its own levels, and is loaded as one."""
    model = gpt2()
    model.transformer.h[1].mlp.act = QCFSQuantizer(2.0, 5)
    model = las_sj.convert(model, las_sj.FASConfig(time_steps=2, sites=("*h.0*",)), calibration_batches())
    model.save_pretrained(tmp_path)
    loaded = GPT2LMHeadModel.from_pretrained(tmp_path)
    assert [name for name, _ in named_activations(loaded)] == [SITE]
    with torch.no_grad():
        assert torch.equal(loaded(token_ids()).logits, model(token_ids()).logits)
