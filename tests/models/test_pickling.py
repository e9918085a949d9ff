"""Converted models are objects like others: saved whole, copied, and their classes found again."""

import copy
import inspect
import io
import pickle
from pathlib import Path
from subprocess import run as run_process
from sys import executable

import pytest
import torch
from tiny_families import TINY_MODELS
from tiny_models import EXECUTIONS, MODELS, convert_tiny, run, token_ids

import las_sj
from las_sj.models import AnalogIsland, SpikingLayer
from las_sj.models.layers.linear import SpikingReadout
from las_sj.models.layers.norm import SpikingRMSNorm

FAMILIES = ("Gemma2ForCausalLM", "Qwen2VLForConditionalGeneration", "ViTForImageClassification")


@pytest.mark.parametrize("name", MODELS)
def test_torch_save(name: str) -> None:
    snn = convert_tiny(MODELS[name]())
    expected = [run(snn, execution, input_ids=token_ids())[0] for execution in EXECUTIONS]
    stream = io.BytesIO()
    torch.save(snn, stream)
    stream.seek(0)
    loaded = torch.load(stream, weights_only=False)
    assert all(
        torch.equal(run(loaded, execution, input_ids=token_ids())[0], output)
        for execution, output in zip(EXECUTIONS, expected, strict=True)
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_pickle_of_families_with_state_of_their_own(name: str) -> None:
    tiny = TINY_MODELS[name]
    snn = las_sj.convert(tiny.build(), None, [tiny.batch(4, 1)])
    loaded, batch = pickle.loads(pickle.dumps(snn)), tiny.batch(2, 3)
    for execution in EXECUTIONS:
        assert torch.equal(run(loaded, execution, **batch)[0], run(snn, execution, **batch)[0])


def test_another_process_loads_it(tmp_path: Path) -> None:
    """One in which las_sj was not imported."""
    snn = convert_tiny(MODELS["llama"](), keep_analog=("model.layers.0.mlp",))
    torch.save(snn, tmp_path / "model.pt")
    torch.save(run(snn, "temporal", input_ids=token_ids())[0], tmp_path / "expected.pt")
    las_sj.set_execution(snn, "temporal")
    torch.save(token_ids(), tmp_path / "ids.pt")
    script = (
        "import torch; model = torch.load('model.pt', weights_only=False); ids = torch.load('ids.pt')\n"
        "with torch.no_grad(): assert torch.equal(model(input_ids=ids)[0], torch.load('expected.pt'))"
    )
    assert run_process([executable, "-c", script], cwd=tmp_path).returncode == 0


def test_source_of_a_layer_is_its_mixin() -> None:
    snn = convert_tiny(MODELS["llama"](), keep_analog=("model.layers.1.mlp",))
    norm, head, island = snn.model.norm, snn.lm_head, snn.model.layers[1].mlp
    assert type(norm).__name__ == "SpikingLlamaRMSNorm"
    assert inspect.getsource(type(norm)) == inspect.getsource(SpikingRMSNorm)
    assert inspect.getsource(type(head)) == inspect.getsource(SpikingReadout)
    assert isinstance(island, AnalogIsland)
    assert inspect.getsource(type(island)).startswith("class LlamaMLP(")  # which transformers knows by its name


def test_modules_of_one_type_stay_of_one_type() -> None:
    first, second = convert_tiny(MODELS["llama"]()), convert_tiny(MODELS["llama"]())
    assert type(first.model.norm) is type(second.model.norm) is type(copy.deepcopy(first).model.norm)
    assert type(first.model.layers[0]).__name__ == "LlamaDecoderLayer"  # by which device maps know it
    assert all(isinstance(layer, torch.nn.Module) for layer in first.modules() if isinstance(layer, SpikingLayer))
