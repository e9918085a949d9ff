"""save_pretrained and from_pretrained of converted models, and of broken checkpoints."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_families import TINY_MODELS
from tiny_models import EXECUTIONS, MODELS, calibration_batches, convert_tiny, gpt2, llama, padding_mask, run, token_ids
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AUTO_QUANTIZER_MAPPING

import las_sj
from las_sj import LASConfig
from las_sj.models import SpikingLayer, execution_of, named_sites
from las_sj.neurons import HGNode

AUTO: dict[str, Any] = {
    "bert": AutoModel,
    "bert-masked-lm": AutoModelForMaskedLM,
    "bert-classifier": AutoModelForSequenceClassification,
    "gpt2": AutoModelForCausalLM,
    "gpt2-tanh": AutoModelForCausalLM,
    "llama": AutoModelForCausalLM,
}
WEIGHTS = "model.safetensors"


def assert_same(first: PreTrainedModel, second: PreTrainedModel) -> None:
    """Bit-identical tensors and outputs, in both executions."""
    expected, found = first.state_dict(), second.state_dict()
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert tensor.dtype == found[name].dtype, name
        assert torch.equal(tensor, found[name]), name
    batch = {"input_ids": token_ids(), "attention_mask": padding_mask("right")}
    for execution in EXECUTIONS:
        assert torch.equal(run(first, execution, **batch)[0], run(second, execution, **batch)[0])


@pytest.mark.parametrize("name", list(AUTO))
def test_bit_identical(name: str, tmp_path: Path) -> None:
    snn = convert_tiny(MODELS[name]())
    snn.save_pretrained(tmp_path)
    loaded = AUTO[name].from_pretrained(tmp_path)
    assert execution_of(loaded).step_mode == "m"  # temporal, as convert leaves it
    assert loaded.las_coverage == snn.las_coverage
    assert type(loaded).__name__ == type(snn).__name__
    assert not any(p.requires_grad for _, site in named_sites(loaded) for p in site.node.parameters())
    assert_same(loaded, snn)


SETTINGS: list[dict[str, Any]] = [
    {"time_steps": 5, "levels": 3, "rounding": "floor", "max_spikes": 2, "hg_tolerance": 1e-2, "headroom": 2.0},
    {"outlier_aware": False},
    {"keep_analog": ("*.mlp.*",)},
    {"hg_lines": 12},
    {"last_step": 0.2, "levels": 1},
    {"hg_lines": 20, "by_operations": True},
    {"time_steps": 24},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_settings_are_kept(settings: dict[str, Any], tmp_path: Path) -> None:
    snn = convert_tiny(gpt2(), **settings)
    snn.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    assert stored["quant_method"] == "las"
    assert stored["format_version"] == 6
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.config.quantization_config.settings == LASConfig(**settings, power_of_two_units=False)
    assert_same(loaded, snn)
    saved = dict(named_sites(snn))
    for name, site in named_sites(loaded):
        node, expected = site.node, saved.pop(name).node
        if isinstance(node, HGNode):
            assert isinstance(expected, HGNode)
            assert (node.low, node.high, node.lines) == (expected.low, expected.high, expected.lines)
            assert (node.sub_neurons, node.stored_lines) == (expected.sub_neurons, expected.stored_lines)
    assert not saved


def test_again_and_again(tmp_path: Path) -> None:
    snn = convert_tiny(llama())
    snn.save_pretrained(tmp_path / "first")
    AutoModelForCausalLM.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
    assert_same(AutoModelForCausalLM.from_pretrained(tmp_path / "second"), snn)
    files = [tmp_path / folder / WEIGHTS for folder in ("first", "second")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("tied", [True, False])
def test_tied_weights_stay_tied(tied: bool, tmp_path: Path) -> None:
    snn = convert_tiny(llama(tie_word_embeddings=tied))
    snn.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == tied
    assert_same(loaded, snn)


@pytest.mark.parametrize(
    ("name", "patterns"),
    [("bert-masked-lm", ("bert.*dense",)), ("bert-classifier", ("bert.*",)), ("llama", ("model.layers.*",))],
)
def test_the_same_modules_stay_analog(name: str, patterns: tuple[str, ...], tmp_path: Path) -> None:
    """Whatever a pattern would name in another model."""
    snn = convert_tiny(MODELS[name](), keep_analog=patterns)
    snn.save_pretrained(tmp_path)
    loaded = AUTO[name].from_pretrained(tmp_path)
    assert loaded.las_coverage == snn.las_coverage
    assert_same(loaded, snn)


def test_the_same_modules_stay_analog_in_the_base_of_a_model(tmp_path: Path) -> None:
    convert_tiny(llama(), keep_analog=("model.layers.0.*",)).save_pretrained(tmp_path)
    base = AutoModel.from_pretrained(tmp_path)
    assert set(base.las_coverage.analog) == {
        f"layers.0.{name}" for name in ("self_attn", "mlp", "input_layernorm", "post_attention_layernorm")
    }


def test_shards(tmp_path: Path) -> None:
    snn = convert_tiny(llama())
    snn.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    assert_same(AutoModelForCausalLM.from_pretrained(tmp_path), snn)


@pytest.mark.parametrize("device_map", ["cpu", "auto"])
def test_device_map(device_map: str, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    snn = convert_tiny(gpt2())
    snn.save_pretrained(tmp_path)
    assert_same(AutoModelForCausalLM.from_pretrained(tmp_path, device_map=device_map), snn)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    snn = convert_tiny(gpt2().to(dtype))
    snn.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.dtype == dtype
    assert_same(loaded, snn)


def test_base_of_a_model_with_a_head(tmp_path: Path) -> None:
    snn = convert_tiny(gpt2())
    snn.save_pretrained(tmp_path)
    base = AutoModel.from_pretrained(tmp_path)
    for execution in EXECUTIONS:
        las_sj.set_execution(snn, execution)
        with torch.no_grad():
            expected = snn.transformer(token_ids())[0]
        assert torch.equal(run(base, execution, input_ids=token_ids())[0], expected)


def test_pickle_of_the_state(tmp_path: Path) -> None:
    """state_dict carries all that calibration found, HG ranges aside."""
    snn = convert_tiny(gpt2())
    torch.save(snn.state_dict(), tmp_path / "state.pt")
    other = convert_tiny(gpt2(), headroom=2.0)
    other.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert torch.equal(
        run(other, "temporal", input_ids=token_ids()).logits, run(snn, "temporal", input_ids=token_ids()).logits
    )


class TestBrokenCheckpoints:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        convert_tiny(gpt2()).save_pretrained(tmp_path)
        return tmp_path

    @staticmethod
    def edit_config(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
        config = json.loads((folder / "config.json").read_text())
        edit(config["quantization_config"])
        (folder / "config.json").write_text(json.dumps(config))

    @staticmethod
    def edit_weights(folder: Path, edit: Callable[[dict[str, Tensor]], None]) -> None:
        tensors = load_file(folder / WEIGHTS)
        edit(tensors)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    @pytest.mark.parametrize("version", [7, 99])
    def test_newer_format_version(self, folder: Path, version: int) -> None:
        self.edit_config(folder, lambda entry: entry.update(format_version=version))
        with pytest.raises(ValueError, match=f"format version {version}, this las_sj reads 1…6: upgrade"):
            AutoModelForCausalLM.from_pretrained(folder)

    @pytest.mark.parametrize("version", [0, -1, "1", None, True])
    def test_no_format_version(self, folder: Path, version: Any) -> None:
        self.edit_config(folder, lambda entry: entry.update(format_version=version))
        with pytest.raises(ValueError, match=f"format version {version!r}, which no las_sj wrote"):
            AutoModelForCausalLM.from_pretrained(folder)

    def test_absent_format_version(self, folder: Path) -> None:
        self.edit_config(folder, lambda entry: entry.pop("format_version"))
        with pytest.raises(ValueError, match="has no format version"):
            AutoModelForCausalLM.from_pretrained(folder)

    @pytest.mark.parametrize("bounds", [["a", "b"], [1.0], [], [None, 1.0]])
    def test_broken_range(self, folder: Path, bounds: Any) -> None:
        name = "transformer.h.1.mlp.act.node"
        self.edit_config(folder, lambda entry: entry["hg_ranges"].update({name: bounds}))
        with pytest.raises(ValueError, match=f"the range of {name} must be two numbers"):
            AutoModelForCausalLM.from_pretrained(folder)

    @pytest.mark.parametrize(("name", "value"), [("time_steps", 25), ("levels", 0), ("rounding", "up")])
    def test_settings_out_of_range(self, folder: Path, name: str, value: Any) -> None:
        self.edit_config(folder, lambda entry: entry.update({name: value}))
        with pytest.raises(ValueError, match=name):
            AutoModelForCausalLM.from_pretrained(folder)

    def test_missing_range(self, folder: Path) -> None:
        name = "transformer.h.1.mlp.act.node"
        self.edit_config(folder, lambda entry: entry["hg_ranges"].pop(name))
        with pytest.raises(ValueError, match=f"no range of {name} in hg_ranges"):
            AutoModelForCausalLM.from_pretrained(folder)

    @pytest.mark.parametrize(
        "name",
        [
            "transformer.h.0.ln_1.centred_node.theta_normal",
            "lm_head.input_node.theta_outlier",
            "transformer.h.1.mlp.act.node.cells",
            "transformer.h.1.mlp.act.node.bias",
            "transformer.ln_f.rsqrt_node.amplitude",
            "transformer.h.1.mlp.c_fc.weight",
            "transformer.h.0.ln_2.bias",
        ],
    )
    @pytest.mark.parametrize("device_map", [None, {"": "cpu"}, {"": "disk"}], ids=str)
    def test_missing_tensor(self, folder: Path, name: str, device_map: Any) -> None:
        self.edit_weights(folder, lambda tensors: tensors.update({"removed": tensors.pop(name)}))
        with pytest.raises(ValueError, match=f"{name} is missing from the checkpoint or broken"):
            AutoModelForCausalLM.from_pretrained(folder, device_map=device_map, offload_folder=folder / "offload")

    def test_all_thresholds_missing(self, folder: Path) -> None:
        def drop(tensors: dict[str, Tensor]) -> None:
            for name in [name for name in tensors if "theta" in name]:
                del tensors[name]

        self.edit_weights(folder, drop)
        with pytest.raises(ValueError, match="theta_normal is missing from the checkpoint or broken"):
            AutoModelForCausalLM.from_pretrained(folder)

    @pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
    def test_broken_threshold(self, folder: Path, value: float) -> None:
        name = "lm_head.input_node.theta_outlier"
        self.edit_weights(folder, lambda tensors: tensors.update({name: torch.tensor(value)}))
        with pytest.raises(ValueError, match=f"{name} is missing from the checkpoint or broken"):
            AutoModelForCausalLM.from_pretrained(folder)

    def test_class_with_other_layers(self, folder: Path) -> None:
        """The score layer was never calibrated: garbage thresholds are worse than none."""
        with pytest.raises(ValueError, match=r"score\.weight is missing.*class that was saved"):
            AutoModelForSequenceClassification.from_pretrained(folder)

    @pytest.mark.parametrize("keep", [0, 7, 1000, 0.5, 0.999])
    def test_truncated(self, folder: Path, keep: float) -> None:
        content = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(content[: int(keep * len(content)) if 0 < keep < 1 else int(keep)])
        with pytest.raises(Exception, match=r"(?i)header|incomplete|metadata|safetensors"):
            AutoModelForCausalLM.from_pretrained(folder)

    @pytest.mark.filterwarnings("ignore")  # transformers' own, of the method
    def test_foreign_method(self, folder: Path) -> None:
        """transformers ignores a method that it does not know; a dense model with our attention does not run."""
        self.edit_config(folder, lambda entry: entry.update(quant_method="foreign"))
        model = AutoModelForCausalLM.from_pretrained(folder)
        assert not any(isinstance(module, SpikingLayer) for module in model.modules())
        with pytest.raises(RuntimeError, match=r"GPT2Attention is not spiking: .* is for models that las_sj converted"):
            model(token_ids())


WITHOUT_IMPORT = """
import sys, transformers
transformers.utils.logging.set_verbosity_error()
for folder in sys.argv[1:]:
    for options in ({}, {"attn_implementation": "sdpa"}, {"device_map": "cpu"}):
        try:
            transformers.AutoModelForCausalLM.from_pretrained(folder, **options)
        except ValueError as error:
            print("refused:", error)
        assert "las_sj" not in sys.modules
"""


@pytest.mark.parametrize("part", ["model.language_model", "model.vision_tower"])
def test_parts_of_a_model_are_not_saved_without_the_rest(part: str, tmp_path: Path) -> None:
    """Their configs do not say how the model was converted."""
    tiny = TINY_MODELS["LlavaForConditionalGeneration"]
    snn = las_sj.convert(tiny.build(), None, [tiny.batch(2, 1)])
    snn.save_pretrained(tmp_path / "whole")
    loaded = transformers.LlavaForConditionalGeneration.from_pretrained(tmp_path / "whole")
    for model in (snn, loaded):
        with pytest.raises(ValueError, match="save the whole model"):
            model.get_submodule(part).save_pretrained(tmp_path / "part")
    assert not (tmp_path / "part").exists()


def test_never_dense_without_las_sj(tmp_path: Path) -> None:
    """A program that did not import las_sj gets an error that names it, not the dense model."""
    snn = convert_tiny(llama())
    snn.save_pretrained(tmp_path / "first")
    AutoModelForCausalLM.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
    command = [sys.executable, "-c", WITHOUT_IMPORT, tmp_path / "first", tmp_path / "second"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    refusals = result.stdout.split("refused:")[1:]
    assert len(refusals) == 6
    assert all("las_sj" in refusal for refusal in refusals)


def test_three_shards_and_a_device_map(tmp_path: Path) -> None:
    snn = convert_tiny(llama())
    size = sum(tensor.nbytes for tensor in snn.state_dict().values())
    snn.save_pretrained(tmp_path, max_shard_size=int(0.4 * size))
    assert len(list(tmp_path.glob("model-0000?-of-00003.safetensors"))) == 3
    for device_map in ("auto", {"": "cpu"}):
        assert_same(AutoModelForCausalLM.from_pretrained(tmp_path, device_map=device_map), snn)


def test_checkpoint_of_the_first_format(tmp_path: Path) -> None:
    """Format 1 had no digests, and did not mark the model with its attention implementation."""
    snn = convert_tiny(gpt2())
    snn.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("_attn_implementation") == "las_sj"
    config["quantization_config"] |= {"format_version": 1, "node_digests": None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert_same(loaded, snn)
    loaded.save_pretrained(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "config.json").read_text())
    assert again["_attn_implementation"] == "las_sj"
    assert again["quantization_config"]["format_version"] == 6


def test_dense_checkpoint_stays_dense(tmp_path: Path) -> None:
    ann = gpt2()
    ann.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert not any(isinstance(module, SpikingLayer) for module in loaded.modules())
    with torch.no_grad():
        assert torch.equal(loaded(token_ids()).logits, ann(token_ids()).logits)


def test_dense_checkpoint_cannot_be_converted_while_loading(tmp_path: Path) -> None:
    gpt2().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="does require the model to be pre-quantized"):
        AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=las_sj.LASQuantizationConfig())


def test_registered_beside_the_others() -> None:
    assert AUTO_QUANTIZER_MAPPING["las"] is las_sj.LASQuantizer
    assert AUTO_QUANTIZATION_CONFIG_MAPPING["las"] is las_sj.LASQuantizationConfig
    others = {name: kind for name, kind in AUTO_QUANTIZER_MAPPING.items() if name != "las"}
    assert len(others) > 5
    assert not any(issubclass(kind, las_sj.LASQuantizer) for kind in others.values())


def test_converting_does_not_touch_the_original() -> None:
    ann = gpt2()
    before = copy.deepcopy(ann.state_dict())
    snn = las_sj.convert(copy.deepcopy(ann), None, calibration_batches())
    assert all(torch.equal(tensor, before[name]) for name, tensor in ann.state_dict().items())
    assert all(torch.equal(tensor, snn.state_dict()[name]) for name, tensor in before.items())
    assert ann.config._attn_implementation != "las"
    assert getattr(ann.config, "quantization_config", None) is None
