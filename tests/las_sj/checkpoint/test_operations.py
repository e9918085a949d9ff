"""Saving and loading of models that were converted by operations, and broken checkpoints of them."""

import copy
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import generating_models
import pytest
import torch
from generating_models import MODELS, batch_of, generate
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    Data2VecVisionConfig,
    Data2VecVisionModel,
    FalconMambaConfig,
    FalconMambaForCausalLM,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    PreTrainedModel,
)

import las_sj
from las_sj.checkpoint.entry import LASQuantizationConfig
from las_sj.checkpoint.node_digests import digest_of
from las_sj.checkpoint.operations_entry import check_operations
from las_sj.models import execution_of, named_sites
from las_sj.models.operations import Operation
from las_sj.models.operations import model as model_of_operations
from las_sj.models.operations.model import entry_of

EXECUTIONS = ("temporal", "accumulated")


@cache
def spiking(name: str) -> Any:
    return generating_models.spiking(name, torch.float32)


def auto(name: str) -> Any:
    return AutoModelForSeq2SeqLM if name in ("t5", "bart") else AutoModelForCausalLM


@torch.no_grad()
def assert_same(loaded: PreTrainedModel, snn: PreTrainedModel) -> None:
    """Bit-identical tensors, outputs and tokens, in both executions."""
    expected, found = snn.state_dict(), loaded.state_dict()
    assert expected.keys() == found.keys()
    assert [name for name, tensor in expected.items() if not torch.equal(tensor, found[name])] == []
    assert loaded.las_coverage == snn.las_coverage
    assert entry_of(loaded) == entry_of(snn)
    for execution in EXECUTIONS:
        for model in (loaded, snn):
            las_sj.set_execution(model, execution)
        assert torch.equal(loaded(**batch_of(snn)).logits, snn(**batch_of(snn)).logits)
        assert torch.equal(generate(loaded), generate(snn))


@pytest.mark.parametrize("name", list(MODELS))
def test_bit_identical(name: str, tmp_path: Path) -> None:
    snn = spiking(name)
    snn.save_pretrained(tmp_path / "first")
    loaded = auto(name).from_pretrained(tmp_path / "first")
    assert execution_of(loaded).step_mode == "m"  # temporal, as convert leaves it
    assert_same(loaded, snn)
    loaded.save_pretrained(tmp_path / "second", max_shard_size="20KB")
    assert len(list((tmp_path / "second").glob("*.safetensors"))) > 1
    assert_same(auto(name).from_pretrained(tmp_path / "second", device_map="auto"), snn)
    configs = [json.loads((tmp_path / folder / "config.json").read_text()) for folder in ("first", "second")]
    assert configs[0] == configs[1]


def test_from_disk(tmp_path: Path) -> None:
    snn = spiking("qwen3_moe")
    snn.save_pretrained(tmp_path / "model")
    places = {"device_map": {"": "disk"}, "offload_folder": tmp_path / "offload"}
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model", **places)
    assert all(parameter.is_meta for parameter in loaded.parameters())
    for execution in EXECUTIONS:
        for model in (loaded, snn):
            las_sj.set_execution(model, execution)
        assert torch.equal(generate(loaded), generate(snn))


@torch.no_grad()
def test_base_of_a_model_with_a_head(tmp_path: Path) -> None:
    snn = spiking("gemma3")
    snn.save_pretrained(tmp_path)
    base = AutoModel.from_pretrained(tmp_path)
    for execution in EXECUTIONS:
        for model in (base, snn):
            las_sj.set_execution(model, execution)
        batch = batch_of(snn)
        assert torch.equal(base(**batch).last_hidden_state, snn.model(**batch).last_hidden_state)


@torch.no_grad()
def test_modelling_code_that_runs_quantised_weights_otherwise(tmp_path: Path) -> None:
    sizes = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "state_size": 4, "time_step_rank": 2}
    ids = generating_models.prompt()
    snn = las_sj.convert(FalconMambaForCausalLM(FalconMambaConfig(**sizes)), None, [{"input_ids": ids}])
    snn.save_pretrained(tmp_path)
    assert torch.equal(FalconMambaForCausalLM.from_pretrained(tmp_path)(ids).logits, snn(ids).logits)


@torch.no_grad()
def test_a_module_that_all_layers_share(tmp_path: Path) -> None:
    """OpenAI GPT has one GELU: each layer gets its neurons, as a checkpoint must have them once."""
    sizes = {"vocab_size": 64, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16}
    ids = generating_models.prompt()
    ann = OpenAIGPTLMHeadModel(OpenAIGPTConfig(**sizes)).eval()
    assert ann.transformer.h[0].mlp.act is ann.transformer.h[1].mlp.act
    expected, shared = ann(ids).logits, ann.transformer.h[0].mlp.act
    snn = las_sj.convert(ann, None, [{"input_ids": ids}])
    snn.save_pretrained(tmp_path)
    logits = OpenAIGPTLMHeadModel.from_pretrained(tmp_path)(ids).logits
    assert torch.equal(logits, snn(ids).logits)
    assert float((logits - expected).norm() / expected.norm()) < 1e-3
    assert not list(shared.children())  # other models have it too


def test_the_third_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations had neurons of their own, those of norms too."""
    monkeypatch.setattr(Operation, "_reading", lambda op, name, kind, coded: op.populations.readings.get(name))
    monkeypatch.setattr(model_of_operations, "norms_in", lambda model: ())
    snn = generating_models.converted_anew("gemma3", torch.float32)
    monkeypatch.undo()
    snn.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    entry = config["quantization_config"]
    entry["format_version"] = 3
    entry["node_digests"] = {name: digest_of(site.node, of_code=False) for name, site in named_sites(snn)}
    del entry["operations"]["norms"], entry["operations"]["attention"]
    for populations in entry["operations"]["populations"].values():
        assert populations.pop("readings") == {}
    (tmp_path / "config.json").write_text(json.dumps(config))
    execution_of(snn).operated.attention = "eager"  # as those models were loaded
    assert_same(AutoModelForCausalLM.from_pretrained(tmp_path), snn)


def test_entries_are_plain() -> None:
    """They say the same after they were written to a file."""
    entry = entry_of(spiking("mamba"))
    assert json.loads(json.dumps(entry)) == entry
    assert entry["populations"]["backbone.layers.0.mixer"]["names"]
    check_operations(entry)


# Broken checkpoints


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("operations")
    spiking("falcon").save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config["quantization_config"]["operations"])
    (folder / "config.json").write_text(json.dumps(config))


LAYER = "transformer.h.0.mlp.dense_4h_to_h"
READER = "transformer.h.0.mlp.dense_h_to_4h"  # what it codes is coded by attention already


NORM = {"gains": "weight", "adds_one": False, "centres": False, "epsilon": 1e-6}


def test_operations_of_another_model(folder: Path) -> None:
    edit(folder, lambda entry: entry["populations"].update({"transformer.h.7": entry["populations"][LAYER]}))
    with pytest.raises(ValueError, match=r"operations in transformer\.h\.7, which FalconForCausalLM has not"):
        AutoModelForCausalLM.from_pretrained(folder)


def test_neurons_that_were_not_saved(folder: Path) -> None:
    def add(entry: dict[str, Any]) -> None:
        populations = entry["populations"][LAYER]
        name, kind = next((name, kind) for name, kind in populations["kinds"].items() if not kind["function"])
        populations["kinds"][f"{name}_more"] = kind

    edit(folder, add)
    with pytest.raises(
        ValueError, match=r"dense_4h_to_h\.spiking\.\w+_more\.\w+ is missing from the checkpoint or broken"
    ):
        AutoModelForCausalLM.from_pretrained(folder)


def test_operations_that_are_gone(folder: Path) -> None:
    """Their weights would be lost, and the model could not run."""
    edit(folder, lambda entry: entry["populations"].pop(LAYER))
    model = AutoModelForCausalLM.from_pretrained(folder)
    with pytest.raises(RuntimeError, match=r"was not run when the model was converted"):
        generate(model)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_attention_modules_are_those_that_were_converted(attention: str, tmp_path: Path) -> None:
    """Its file has a class for each implementation, in which operations stand elsewhere."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = Data2VecVisionConfig(**sizes, image_size=8, patch_size=4)
    model = Data2VecVisionModel._from_config(config, attn_implementation=attention)
    batch = {"pixel_values": torch.randn(2, 3, 8, 8)}
    snn = las_sj.convert(model, las_sj.LASConfig(time_steps=4), [batch])
    snn.save_pretrained(tmp_path)
    loaded = Data2VecVisionModel.from_pretrained(tmp_path)
    assert {type(part).__name__ for part in loaded.modules()} == {type(part).__name__ for part in snn.modules()}
    assert torch.equal(loaded(**batch).last_hidden_state, snn(**batch).last_hidden_state)
    assert entry_of(loaded) == entry_of(snn)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ((), [], "operations must be named"),
        ((), {"populations": {}}, "operations must have populations, norms, decisions, analog"),
        (("populations",), 3, "populations must be named"),
        (("populations", LAYER), None, rf"the populations of {LAYER} must be named"),
        (("populations", LAYER), {"names": {}}, "must have names, kinds and readings"),
        (("populations", LAYER, "readings"), {"exp_1": {}}, "have neurons 'exp_1' that belong to no operation"),
        (("populations", READER, "readings", "matmul_1_left"), {}, "must have feeds, is_mac, source, synapses"),
        (("populations", READER, "readings", "matmul_1_left", "is_mac"), 1, "has is_mac '1'"),
        (("populations", READER, "readings", "matmul_1_left", "source"), ["a"], r"has source \"\['a'\]\""),
        (("populations", READER, "readings", "matmul_1_left", "source"), ["a", "b"], "reads spikes of a b"),
        (("norms",), {"norm": {"gains": "weight"}}, "must have gains, adds_one, centres, epsilon"),
        (("norms",), {"norm": {**NORM, "epsilon": None}}, "the norm norm has epsilon 'None'"),
        (("populations", LAYER, "names"), {"gelu": "gelu_1"}, "name an operation 'gelu_1'"),
        (("populations", LAYER, "names"), {"gelu@f:1": "a.b"}, "name an operation 'a.b'"),
        (("populations", LAYER, "kinds"), {"exp_1": {}}, "have neurons 'exp_1' that belong to no operation"),
        (("decisions",), {"": "topk"}, "decisions of  must be names of functions"),
        (("attention",), "of/a-hub", "attention must be eager or sdpa, got 'of/a-hub'"),
    ],
)
def test_broken_entries(path: tuple[str, ...], value: Any, message: str) -> None:
    whole = {"": copy.deepcopy(entry_of(spiking("falcon")))}
    *way, last = ("", *path)
    part: Any = whole
    for name in way:
        part = part[name]
    part[last] = value
    with pytest.raises(ValueError, match=message) as error:
        LASQuantizationConfig(operations=whole[""])
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("the checkpoint is broken")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("function", "acos"),
        ("function", 3),
        ("feeds", "all"),
        ("upper_bound", -1.0),
        ("epsilon", "small"),
        ("upper_bound", []),
    ],
)
def test_broken_neurons(setting: str, value: Any) -> None:
    entry = copy.deepcopy(entry_of(spiking("falcon")))
    name, kind = next(iter(entry["populations"][LAYER]["kinds"].items()))
    kind[setting] = value
    with pytest.raises(ValueError, match=rf"{name}, of the populations of {LAYER}, has {setting}"):
        check_operations(entry)
    del kind[setting]
    with pytest.raises(ValueError, match="must have additions, epsilon, feeds, function, is_mac"):
        check_operations(entry)
