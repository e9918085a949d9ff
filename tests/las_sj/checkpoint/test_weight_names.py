"""Models whose weights transformers saves joined: the thresholds of their neurons stay what they are."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM, GteConfig, NomicBertConfig, PretrainedConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter

import las_sj

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 32,
}
CONFIGS: dict[str, type[PretrainedConfig]] = {"queries_keys_values": NomicBertConfig, "gates_too": GteConfig}
IDS = torch.arange(1, 13).view(2, 6)


def converted(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForMaskedLM.from_config(CONFIGS[kind](**SIZES)).eval()
    return las_sj.convert(model, las_sj.LASConfig(time_steps=4), [{"input_ids": IDS}])


@pytest.mark.parametrize("kind", CONFIGS)
def test_saved_and_loaded_bit_identical(kind: str, tmp_path: Path) -> None:
    snn = converted(kind)
    joined = [c for c in get_model_conversion_mapping(snn) if isinstance(c, WeightConverter)]
    assert joined  # else nothing is tested
    folders = (tmp_path / "first", tmp_path / "again")
    for folder in folders:
        snn.save_pretrained(folder)
        loaded = AutoModelForMaskedLM.from_pretrained(folder)
        expected, found = snn.state_dict(), loaded.state_dict()
        assert expected.keys() == found.keys()
        assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
        with torch.no_grad():
            assert torch.equal(loaded(IDS).logits, snn(IDS).logits)
        snn = loaded
    first, again = (folder / "model.safetensors" for folder in folders)
    assert first.read_bytes() == again.read_bytes()
