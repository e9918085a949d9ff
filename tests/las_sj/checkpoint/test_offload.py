"""Models whose weights accelerate keeps on disk, or partly so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import EXECUTIONS, MODELS, calibration_batches, convert_tiny, padding_mask, run, token_ids
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel

import las_sj
from las_sj.checkpoint.placement import is_offloaded, places_of, weights_of

pytest.importorskip("accelerate")

AUTO: dict[str, Any] = {"bert": AutoModel, "gpt2": AutoModelForCausalLM, "llama": AutoModelForCausalLM}
PARTLY = {
    "model.embed_tokens": "cpu",
    "model.rotary_emb": "cpu",
    "model.layers.0": "cpu",
    "model.layers.1": "disk",
    "model.norm": "disk",
    "lm_head": "disk",
}
PLACES: dict[str, dict[str, Any]] = {"disk": {"": "disk"}, "cpu and disk": PARTLY}
BATCH = {"input_ids": token_ids(), "attention_mask": padding_mask("right")}


def assert_same_outputs(first: PreTrainedModel, second: PreTrainedModel) -> None:
    for execution in EXECUTIONS:
        assert torch.equal(run(first, execution, **BATCH)[0], run(second, execution, **BATCH)[0])


@pytest.fixture
def offloaded(tmp_path: Path) -> Callable[..., Any]:
    """Saves a model and loads it with its weights elsewhere."""

    def load(model: PreTrainedModel, kind: Any, device_map: Any) -> Any:
        model.save_pretrained(tmp_path / "model", max_shard_size="20KB")
        return kind.from_pretrained(
            tmp_path / "model", device_map=device_map, offload_folder=tmp_path / "offload", dtype=torch.float32
        ).eval()

    return load


@pytest.mark.parametrize("name", list(AUTO))
def test_converted_on_disk(name: str, offloaded: Callable[..., Any]) -> None:
    ann = MODELS[name]()
    expected = convert_tiny(ann)
    model = offloaded(ann, AUTO[name], {"": "disk"})
    assert all(parameter.is_meta for parameter in model.parameters())
    las_sj.convert(model, None, calibration_batches())
    assert is_offloaded(model)
    assert_same_outputs(model, expected)


def test_converted_partly_on_disk(offloaded: Callable[..., Any], tmp_path: Path) -> None:
    ann = MODELS["llama"]()
    expected = convert_tiny(ann)
    model = offloaded(ann, AutoModelForCausalLM, PARTLY)
    las_sj.convert(model, None, calibration_batches())
    assert_same_outputs(model, expected)
    with pytest.warns(UserWarning, match="offloaded modules"):
        model.save_pretrained(tmp_path / "converted")
    assert_same_outputs(AutoModelForCausalLM.from_pretrained(tmp_path / "converted"), expected)


@pytest.mark.parametrize("place", list(PLACES))
def test_loaded_to_disk(place: str, offloaded: Callable[..., Any]) -> None:
    snn = convert_tiny(MODELS["llama"]())
    loaded = offloaded(snn, AutoModelForCausalLM, PLACES[place])
    assert loaded.las_coverage == snn.las_coverage
    assert_same_outputs(loaded, snn)


def test_generates_from_disk(offloaded: Callable[..., Any]) -> None:
    snn = convert_tiny(MODELS["llama"]())
    loaded = offloaded(snn, AutoModelForCausalLM, {"": "disk"})
    options: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    for execution in EXECUTIONS:
        for model in (snn, loaded):
            las_sj.set_execution(model, execution)
        assert torch.equal(loaded.generate(token_ids(), **options), snn.generate(token_ids(), **options))


def test_broken_weight_on_disk_is_found(offloaded: Callable[..., Any]) -> None:
    ann = MODELS["llama"]()
    ann.model.layers[1].mlp.up_proj.weight.data[0, 0] = float("nan")
    model = offloaded(ann, AutoModelForCausalLM, {"": "disk"})
    with pytest.raises(las_sj.CalibrationError, match=r"model\.layers\.1\.mlp\.up_proj\.weight has infinite or NaN"):
        las_sj.convert(model, None, calibration_batches())


def test_weights_are_fetched_one_module_at_a_time(offloaded: Callable[..., Any]) -> None:
    ann = MODELS["gpt2"]()
    model = offloaded(ann, AutoModelForCausalLM, {"": "disk"})
    expected = dict(ann.named_parameters())
    seen = set()
    for name, parameter in weights_of(model):
        assert torch.equal(parameter, ann.get_parameter(name))
        seen.add(name)
    assert seen >= set(expected)
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize(
    ("device_map", "limits", "message"),
    [
        (None, ["cpu=1GiB"], "needs a --device-map"),
        ("disk", ["cpu=1GiB"], "needs a"),
        ("auto", ["cpu"], "DEVICE=SIZE"),
        ("auto", ["=1GiB"], "DEVICE=SIZE"),
    ],
)
def test_places_that_are_not_understood(device_map: str | None, limits: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message), places_of(device_map, limits):
        pass


def test_folder_of_offloaded_weights_is_removed() -> None:
    with places_of("auto", ["cpu=1GiB", "0=20GiB"]) as places:
        assert places["max_memory"] == {"cpu": "1GiB", 0: "20GiB"}
        assert Path(places["offload_folder"]).is_dir()
    assert not Path(places["offload_folder"]).exists()
    with places_of(None) as nothing:
        assert nothing == {}
