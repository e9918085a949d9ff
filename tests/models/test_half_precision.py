"""Networks in bf16 and fp16: as close to the fp32 ANN as the ANN of half precision is, in both executions."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from real_models import to_double
from tiny_families import TINY_MODELS, Batch, Model
from tiny_models import EXECUTIONS, MODELS, calibration_batches, relative_error, run, run_and_count, token_ids
from torch import Tensor, nn
from transformers import AutoTokenizer, GPT2LMHeadModel

import las_sj
from las_sj.data.text import read_text, token_windows
from las_sj.loading import default_model
from las_sj.models import named_sites

HALF = [torch.bfloat16, torch.float16]
# Differences of one row of figures are of chance: so many steps of the type, and so many times the ANN's own.
STEPS, TIMES = 4, 2
ONE_OF_EACH_FAMILY = list({tiny.family: name for name, tiny in reversed(TINY_MODELS.items())}.values())


def cast(batch: Batch, dtype: torch.dtype) -> Batch:
    """A batch with its images in another type."""
    return {name: x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x for name, x in batch.items()}


def allowed(ann_error: float, dtype: torch.dtype) -> float:
    return TIMES * ann_error + STEPS * torch.finfo(dtype).eps


@torch.no_grad()
def first_output(model: Model, batch: Batch) -> Tensor:
    output: Tensor = model(**batch)[0]
    return output


@pytest.fixture(scope="module")
def half_llama() -> dict[torch.dtype, Model]:
    return {dtype: las_sj.convert(MODELS["llama"]().to(dtype), None, calibration_batches()) for dtype in HALF}


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("architecture", ONE_OF_EACH_FAMILY)
def test_every_family(architecture: str, dtype: torch.dtype) -> None:
    tiny = TINY_MODELS[architecture]
    ann = tiny.build().to(dtype)
    single = copy.deepcopy(ann).float()
    batch = tiny.batch(3, 1)
    reference = first_output(single, batch)
    ann_error = relative_error(first_output(ann, cast(batch, dtype)), reference)
    snn = las_sj.convert(ann, None, [cast(tiny.batch(4, 100), dtype)])
    assert snn.dtype == dtype
    assert snn.config.quantization_config.settings.power_of_two_units
    outputs = {execution: run(snn, execution, **cast(batch, dtype))[0] for execution in EXECUTIONS}
    for output in outputs.values():
        assert output.dtype == dtype
        assert relative_error(output, reference) <= allowed(ann_error, dtype)
    assert relative_error(outputs["temporal"], outputs["accumulated"]) <= allowed(ann_error, dtype) * 2**0.5
    if tiny.generates:
        text = snn.generate(**cast(batch, dtype), max_new_tokens=3, do_sample=False)
        assert text.shape[1] == batch["input_ids"].shape[1] + 3


@pytest.mark.parametrize("dtype", HALF)
def test_observed_populations_emit_what_others_do(dtype: torch.dtype, half_llama: dict[torch.dtype, Model]) -> None:
    """Where somebody counts spikes each population runs by itself; between populations values stay in fp32.

    Only sums are taken in another order: of the channels of a row, and of the steps of a train.
    """
    model = half_llama[dtype]
    for execution in EXECUTIONS:
        counted, counts = run_and_count(model, execution, input_ids=token_ids())
        difference = relative_error(counted.logits, run(model, execution, input_ids=token_ids()).logits)
        assert difference <= STEPS * _step(dtype)
        assert all(spikes > 0 for _, spikes in counts.values())


@pytest.mark.parametrize("dtype", HALF)
def test_both_executions_fire_the_same_spikes_in_double_precision(
    dtype: torch.dtype, half_llama: dict[torch.dtype, Model]
) -> None:
    """With units that are powers of two, sums of spikes are exact: nothing falls on another side of a threshold."""
    model = to_double(half_llama[dtype])
    (temporal, in_time), (accumulated, at_once) = (
        run_and_count(model, execution, input_ids=token_ids()) for execution in EXECUTIONS
    )
    assert relative_error(temporal.logits, accumulated.logits) < 1e-9
    assert in_time == at_once


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_saved_and_loaded_bit_for_bit(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    MODELS[name]().save_pretrained(tmp_path / "ann")
    kind = type(MODELS[name]())
    ann = kind.from_pretrained(tmp_path / "ann", dtype=dtype)  # `.to` would round rotary frequencies too
    model = las_sj.convert(ann, None, calibration_batches())
    model.save_pretrained(tmp_path)
    for options in ({}, {"dtype": dtype}, {"dtype": "auto"}):
        loaded = kind.from_pretrained(tmp_path, **options)
        assert loaded.dtype == dtype
        nodes = {tensor.dtype for _, site in named_sites(loaded) for tensor in site.node.state_dict().values()}
        assert nodes <= {torch.float32, torch.int32}  # thresholds and tables
        for execution in EXECUTIONS:
            expected = run(model, execution, input_ids=token_ids())[0]
            assert torch.equal(run(loaded, execution, input_ids=token_ids())[0], expected)


@pytest.mark.parametrize("dtype", HALF)
def test_loaded_in_another_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    """A network that was converted in fp32 runs in half precision, and the other way round; thresholds stay."""
    single = las_sj.convert(MODELS["gpt2"](), None, calibration_batches())
    single.save_pretrained(tmp_path)
    loaded = type(single).las_parts[1].from_pretrained(tmp_path, dtype=dtype)
    assert loaded.dtype == dtype
    for (name, before), (_, after) in zip(named_sites(single), named_sites(loaded), strict=True):
        for key, tensor in before.node.state_dict().items():
            assert torch.equal(after.node.state_dict()[key], tensor), (name, key)
    expected = run(single, "accumulated", input_ids=token_ids()).logits
    for execution in EXECUTIONS:
        assert relative_error(run(loaded, execution, input_ids=token_ids()).logits, expected) < 20 * _step(dtype)
        assert torch.equal(
            run(copy.deepcopy(single).to(dtype), execution, input_ids=token_ids()).logits,
            run(loaded, execution, input_ids=token_ids()).logits,
        )


def _step(dtype: torch.dtype) -> float:
    return float(torch.finfo(dtype).eps)


@pytest.fixture(scope="module")
def prompts() -> dict[str, Any]:
    """Forty prompts for the default model, of 24 tokens each."""
    tokenizer = AutoTokenizer.from_pretrained(default_model())
    text = read_text(default_model() / "evaluation.txt")
    ids = token_windows(tokenizer, text, 960, 24, 40)[0]["input_ids"]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize("dtype", HALF)
def test_greedy_text_of_the_default_model_is_that_of_the_ann(dtype: torch.dtype, prompts: dict[str, Any]) -> None:
    ann = GPT2LMHeadModel.from_pretrained(default_model(), dtype=dtype).eval()
    snn = las_sj.convert(copy.deepcopy(ann), None, [prompts])
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    expected = ann.generate(**prompts, **options)
    for execution in EXECUTIONS:
        las_sj.set_execution(snn, execution)
        text = snn.generate(**prompts, **options)
        assert int((text == expected).all(-1).sum()) >= 32


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("channels", [32, 1])
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_activations_of_30_000(name: str, channels: int, dtype: torch.dtype) -> None:
    """Finite as in the ANN, though fp16 cannot hold their squares; in one channel, as close to fp32 as the ANN is."""
    model = MODELS[name]()
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        weight[7, :channels] = 3e4 * torch.randn(channels).sign()
        if model.get_output_embeddings() is not None:
            model.get_output_embeddings().weight = nn.Parameter(torch.randn_like(weight))  # logits are not of 1e6
    model = model.to(dtype)
    ids = token_ids(4, 16).index_fill_(1, torch.tensor([3]), 7)
    expected = first_output(model, {"input_ids": ids})
    reference = first_output(copy.deepcopy(model).float(), {"input_ids": ids})
    assert bool(expected.isfinite().all())
    snn = las_sj.convert(model, None, [{"input_ids": ids}])
    for execution in EXECUTIONS:
        output = run(snn, execution, input_ids=ids)[0]
        assert bool(output.isfinite().all())
        if channels == 1:
            assert relative_error(output, reference) <= allowed(relative_error(expected, reference), dtype) + 0.01
