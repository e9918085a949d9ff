"""Adapters of PEFT around a converted model's layers, or there before: as around the ANN's, in both executions."""

import copy
from typing import Any

import pytest
import torch
from foreign_code import HEADROOM, LOSSLESS, adapters, assert_as_the_ann, first_output
from tiny_models import EXECUTIONS, MODELS, convert_tiny, relative_error, token_ids
from torch import nn
from transformers import ViTConfig, ViTModel

import las_sj
from las_sj.analysis import SpikeMonitor

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning", "ignore:fan_in_fan_out is set to False"
)
ADAPTED: dict[str, tuple[str, list[str]]] = {
    "embeddings": ("llama", ["embed_tokens"]),
    "embeddings and positions": ("gpt2", ["wte", "wpe"]),
    "attention": ("llama", ["q_proj", "k_proj", "v_proj", "o_proj"]),
    "Conv1D": ("gpt2", ["c_attn", "c_proj", "c_fc"]),
    "gated block": ("llama", ["gate_proj", "up_proj", "down_proj"]),
    "head": ("llama", ["lm_head"]),
    "encoder": ("bert-classifier", ["query", "dense", "classifier"]),
}


@pytest.mark.parametrize("place", ADAPTED)
@pytest.mark.parametrize("when", ["before", "after"])
def test_adapters(place: str, when: str) -> None:
    name, targets = ADAPTED[place]
    ann = MODELS[name]().double()
    plain = first_output(ann)
    around_ann = adapters(copy.deepcopy(ann), targets)
    expected = first_output(around_ann)
    assert relative_error(expected, plain) > 0.05
    if when == "after":
        around = adapters(convert_tiny(ann, headroom=HEADROOM), targets)
        converted = around.get_base_model()
    else:
        around = adapters(ann, targets)
        converted = convert_tiny(around.get_base_model(), headroom=HEADROOM)
        around.base_model.model = converted
        assert set(converted.las_coverage.analog.values()) == {"an adapter, which runs on sums over time"}
    assert_as_the_ann(around, converted, expected)
    with around.disable_adapter():
        assert_as_the_ann(around, converted, plain)
    merged = around.merge_and_unload()
    assert_as_the_ann(merged, merged, first_output(around_ann.merge_and_unload()))  # tied weights are merged together


def test_layers_that_are_trained_as_a_whole() -> None:
    """PEFT's modules_to_save: a copy of the head takes its place."""
    ann = MODELS["llama"]().double()
    options = {"modules_to_save": ["lm_head"]}
    expected = first_output(adapters(copy.deepcopy(ann), ["q_proj"], **options))
    around = adapters(convert_tiny(ann, headroom=HEADROOM), ["q_proj"], **options)
    assert_as_the_ann(around, around.get_base_model(), expected)


def test_adapters_are_trained() -> None:
    """Gradients of the adapters are those of the accumulated call, as far as those of the executions agree."""
    around = adapters(convert_tiny(MODELS["llama"]().double()), ["embed_tokens", "q_proj", "lm_head"]).train()
    ids, gradients = token_ids(), []
    for execution in EXECUTIONS:
        las_sj.set_execution(around.get_base_model(), execution)
        around.zero_grad()
        around(input_ids=ids, labels=ids).loss.backward()
        gradients.append({name: p.grad.clone() for name, p in around.named_parameters() if p.grad is not None})
    assert len(gradients[0]) == 2 * (1 + 2 + 1)
    for name, gradient in gradients[0].items():
        assert relative_error(gradients[1][name], gradient) < 0.02, name


def test_neurons_inside_of_adapters_spike() -> None:
    """As many spikes as in the layer without one, whose inputs are the same."""
    snn = convert_tiny(MODELS["llama"]().double())
    las_sj.set_execution(snn, "temporal")
    counts = []
    for model in (snn, adapters(copy.deepcopy(snn), ["v_proj", "lm_head"])):
        base = model if model is snn else model.get_base_model()
        with SpikeMonitor(base) as monitor, torch.no_grad():
            if model is snn:
                model(input_ids=token_ids())
            else:
                with model.disable_adapter():
                    model(input_ids=token_ids())
        counts.append([(site.neurons, site.spikes, site.synaptic_operations) for site in monitor.sites.values()])
    assert counts[0] == counts[1]
    assert sum(spikes for _, spikes, _ in counts[0]) > 1000


def test_adapters_are_not_saved_with_the_model(tmp_path: Any) -> None:
    around = adapters(convert_tiny(MODELS["llama"]()), ["q_proj"])
    with pytest.raises(ValueError, match="q_proj is an adapter, which a converted model cannot"):
        around.get_base_model().save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    around.save_pretrained(tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("options", [{}, {"use_dora": True}], ids=["LoRA", "DoRA"])
def test_adapters_on_convolutions(execution: str, options: dict[str, Any]) -> None:
    """PEFT makes its own convolutions of the class that the layer has."""
    pytest.importorskip("peft")
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 16}
    ann = ViTModel(ViTConfig(**sizes, intermediate_size=64, patch_size=4)).eval().double()
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(headroom=HEADROOM), [{"pixel_values": images}])
    targets = [name for name, module in ann.named_modules() if isinstance(module, nn.Conv2d)]
    outputs = []
    for model in (ann, snn):
        around = adapters(model, targets, **options)
        if model is snn:
            las_sj.set_execution(snn, execution)
        with torch.no_grad():
            outputs.append(around(pixel_values=images)[0])
    assert relative_error(outputs[1], outputs[0]) < 5 * LOSSLESS
