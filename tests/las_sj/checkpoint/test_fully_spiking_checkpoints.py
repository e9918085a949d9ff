"""Fully spiking networks of quantised activations are saved and loaded bit for bit, or refused."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fully_spiking_models import FED, MODELS, fully_spiking, quantised, quantisers_of
from safetensors.torch import load_file, save_file
from tiny_models import EXECUTIONS, Model, calibration_batches, run, token_ids
from transformers import AutoModel, AutoModelForCausalLM

import las_sj
from las_sj.models import named_sites
from las_sj.neurons.rate_coded import QCFSWindowNode

ACTIVATION, LAYER = FED["gpt2"]


def feeds_of(model: Model) -> dict[str, tuple[str, int]]:
    return {name: (site.feeds, site.fan_out) for name, site in named_sites(model)}


@pytest.fixture(scope="module")
def snn() -> Model:
    return fully_spiking(quantised(MODELS["gpt2"]()), 8)


@pytest.fixture
def folder(snn: Model, tmp_path: Path) -> Path:
    snn.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("name", MODELS)
def test_what_is_loaded_is_what_was_saved(name: str, tmp_path: Path) -> None:
    snn = fully_spiking(quantised(MODELS[name]()), 8)
    snn.save_pretrained(tmp_path)
    loaded = type(snn).from_pretrained(tmp_path)
    assert feeds_of(loaded) == feeds_of(snn)
    assert loaded.las_coverage == snn.las_coverage
    for module, other in zip(quantisers_of(loaded).values(), quantisers_of(snn).values(), strict=True):
        assert torch.equal(module.theta, other.theta)
        assert module.theta.requires_grad
    for execution in EXECUTIONS:
        first, second = (run(model, execution, input_ids=token_ids()) for model in (snn, loaded))
        assert torch.equal(first.logits, second.logits)


@pytest.mark.parametrize("by_operations", [False, True])
def test_settings_of_las_are_saved_too(by_operations: bool, tmp_path: Path) -> None:
    config = las_sj.LASConfig(time_steps=10, by_operations=by_operations)
    snn = las_sj.convert(quantised(MODELS["gpt2"]()), config, calibration_batches())
    snn.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert feeds_of(loaded) == feeds_of(snn)
    assert torch.equal(loaded(token_ids()).logits, snn(token_ids()).logits)


def test_an_activation_that_stayed_analog(tmp_path: Path) -> None:
    config = las_sj.LASConfig(time_steps=10, keep_analog=(ACTIVATION,))
    snn = las_sj.convert(quantised(MODELS["gpt2"]()), config, calibration_batches())
    snn.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert list(loaded.las_coverage.analog) == [ACTIVATION]
    assert torch.equal(loaded(token_ids()).logits, snn(token_ids()).logits)


def test_thresholds_that_were_trained_are_saved(snn: Model, tmp_path: Path) -> None:
    trained = copy.deepcopy(snn)
    quantisers_of(trained)[ACTIVATION].theta.data.mul_(0.7)
    trained.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(loaded(token_ids()).logits, trained(token_ids()).logits)


def test_the_model_inside_of_one_with_a_head(snn: Model, folder: Path) -> None:
    loaded = AutoModel.from_pretrained(folder)
    assert isinstance(loaded.h[0].mlp.act.node, QCFSWindowNode)
    assert loaded.h[0].mlp.act.fed == "h.0.mlp.c_proj"
    for execution in EXECUTIONS:
        hidden = run(snn, execution, input_ids=token_ids(), output_hidden_states=True).hidden_states[-1]
        assert torch.equal(run(loaded, execution, input_ids=token_ids()).last_hidden_state, hidden)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_in_other_precisions_thresholds_are_the_same(dtype: torch.dtype, snn: Model, folder: Path) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    for module, other in zip(quantisers_of(loaded).values(), quantisers_of(snn).values(), strict=True):
        assert torch.equal(module.theta.float(), other.theta)


def edit_tensor(folder: Path, edit: Callable[[torch.Tensor], torch.Tensor]) -> None:
    tensors, name = load_file(folder / "model.safetensors"), f"{ACTIVATION}.node.theta"
    tensors[name] = edit(tensors[name])
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("loader", [AutoModelForCausalLM, AutoModel])
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda theta: torch.nextafter(theta, theta + 1), "not those that were saved"),
        (lambda theta: -theta, "has no positive value"),
        (lambda theta: theta * torch.nan, "has infinite or NaN values"),
    ],
    ids=["changed", "negative", "nan"],
)
def test_another_threshold_is_refused(loader: Any, edit: Any, message: str, folder: Path) -> None:
    edit_tensor(folder, edit)
    with pytest.raises(ValueError, match=message):
        loader.from_pretrained(folder)


def edit_entry(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    entry = config["quantization_config"]["activations"][ACTIVATION]
    for key, value in changes.items():
        if value is None:
            del entry[key]
        else:
            entry[key] = value
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "fed", ["transformer.h.0.mlp.c_fc", "transformer.ln_f", "transformer.wte", "transformer.h.0.mlp.act", "lm_head"]
)
def test_spikes_go_to_the_layer_that_took_them(fed: str, folder: Path) -> None:
    edit_entry(folder, fed=fed)
    with pytest.raises(ValueError, match=r"takes the spikes of transformer.h.0.mlp.act, .* convert the model again"):
        AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize(
    "changes",
    [{"fed": 3}, {"levels": 0}, {"levels": "8"}, {"shape": [0]}, {"clip_first": 1}, {"levels": None}],
    ids=str,
)
def test_entries_of_another_kind_are_refused(changes: dict[str, Any], folder: Path) -> None:
    edit_entry(folder, **changes)
    with pytest.raises(ValueError, match="activations"):
        AutoModelForCausalLM.from_pretrained(folder)


def test_a_layer_that_lost_its_spikes_is_refused(folder: Path, recwarn: pytest.WarningsRecorder) -> None:
    """It would code its input, by thresholds that nobody has saved."""
    edit_entry(folder, fed=None)
    with pytest.raises(ValueError, match=f"{LAYER}.input_node.* is missing from the checkpoint"):
        AutoModelForCausalLM.from_pretrained(folder)
