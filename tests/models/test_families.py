"""Every family and head: accurate, the same in both executions, covered, saved and loaded, generating."""

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import transformers
from tiny_families import PATCH, TINY_MODELS, Batch, Model, TinyModel, double
from tiny_models import EXECUTIONS, relative_error, run, run_and_count
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

import las_sj
from las_sj.analysis import audit
from las_sj.models import named_sites
from las_sj.models.layers.activation import hg_function

ACCURATE = 1e-3
SAME = 1e-9
GENERATING = [name for name, tiny in TINY_MODELS.items() if tiny.generates]


@cache
def _pair(name: str) -> tuple[Model, Model]:
    tiny = TINY_MODELS[name]
    ann = tiny.build()
    calibration = [tiny.batch(4, seed) for seed in (1, 2)]
    return ann, las_sj.convert(copy.deepcopy(ann), None, calibration)


@pytest.fixture(params=list(TINY_MODELS))
def tiny(request: pytest.FixtureRequest) -> TinyModel:
    return TINY_MODELS[request.param]


def pair_of(tiny: TinyModel) -> tuple[Model, Model]:
    return copy.deepcopy(_pair(tiny.architecture))


def padded(tiny: TinyModel, rows: int = 3) -> tuple[Batch, Tensor | None]:
    """A batch whose second row ends in padding, where it has text, and the mask of its tokens."""
    batch = tiny.batch(rows, 3)
    if "input_ids" not in batch:
        return batch, None
    mask = torch.ones_like(batch["input_ids"])
    mask[1, -3:] = 0
    return batch | {"input_ids": batch["input_ids"] * mask, "attention_mask": mask}, mask.bool()


def outputs_of(output: Any, mask: Tensor | None) -> Iterator[Tensor]:
    """Every float output, without padding."""
    for value in output.values():
        if isinstance(value, Tensor) and value.is_floating_point():
            yield value[mask] if mask is not None and value.shape[:2] == mask.shape else value


@torch.no_grad()
def test_accurate(tiny: TinyModel) -> None:
    ann, snn = pair_of(tiny)
    batch, mask = padded(tiny)
    expected, found = ann(**batch), run(snn, "accumulated", **batch)
    assert set(found) == set(expected)
    errors = [relative_error(a, b) for a, b in zip(outputs_of(found, mask), outputs_of(expected, mask), strict=True)]
    assert errors
    assert all(0 < error < ACCURATE for error in errors), errors


def test_temporal_is_accumulated(tiny: TinyModel) -> None:
    snn = pair_of(tiny)[1].double()
    batch, mask = padded(tiny)
    (temporal, spikes), (accumulated, expected) = (run_and_count(snn, name, **double(batch)) for name in EXECUTIONS)
    assert set(temporal) == set(accumulated)
    for first, second in zip(outputs_of(temporal, mask), outputs_of(accumulated, mask), strict=True):
        assert first.shape == second.shape
        assert relative_error(first, second) < SAME
    assert spikes == expected
    reached = sum(1 for _, count in spikes.values() if count > 0)
    assert reached > 0.9 * len(spikes)  # LLaVA reads the last layer of its tower but one


def test_everything_became_spiking(tiny: TinyModel) -> None:
    ann, snn = pair_of(tiny)
    coverage = snn.las_coverage
    assert coverage.analog == {}
    kinds = [type(module).__name__ for module in ann.modules() if computes(module)]
    assert sum(coverage.spiking.get(kind, 0) for kind in set(kinds)) == len(kinds)


def test_fully_spike_driven(tiny: TinyModel) -> None:
    result = audit(pair_of(tiny)[1], tiny.batch(2, 3))
    assert result.fully_spike_driven, result.analog


def computes(module: nn.Module) -> bool:
    """Whether a module is a linear layer, a convolution, a norm, an activation, an embedding, or attention."""
    kind = type(module).__name__
    known = isinstance(module, nn.Linear | Conv1D | nn.Conv2d | nn.Conv3d | nn.LayerNorm | nn.Embedding)
    attends = kind.endswith("Attention") and hasattr(module, "scaling" if kind != "CLIPAttention" else "scale")
    return known or kind.endswith("RMSNorm") or hg_function(module) is not None or attends


def test_saved_and_loaded(tiny: TinyModel, tmp_path: Path) -> None:
    snn = pair_of(tiny)[1]
    snn.save_pretrained(tmp_path)
    loaded = getattr(transformers, tiny.architecture).from_pretrained(tmp_path)
    assert loaded.las_coverage == snn.las_coverage
    assert [name for name, _ in named_sites(loaded)] == [name for name, _ in named_sites(snn)]
    expected, found = snn.state_dict(), loaded.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    batch, _ = padded(tiny)
    for execution in EXECUTIONS:
        first, second = (outputs_of(run(model, execution, **batch), None) for model in (snn, loaded))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", ["ViTModel", "CLIPVisionModel", "CLIPVisionModelWithProjection"])
def test_images_of_another_size(name: str, execution: str) -> None:
    ann, snn = pair_of(TINY_MODELS[name])
    pixels = torch.randn(2, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = ann(pixel_values=pixels, interpolate_pos_encoding=True)[0]
    found = run(snn, execution, pixel_values=pixels, interpolate_pos_encoding=True)[0]
    assert 0 < relative_error(found, expected) < ACCURATE


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_videos(execution: str) -> None:
    """Two sequences, each with two frames of 16 patches, of which four make a token."""
    ann, snn = pair_of(TINY_MODELS["Qwen2VLForConditionalGeneration"])
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 90, (2, 14), generator=generator)
    ids[:, 2:10] = 98
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values_videos": torch.randn(64, 3 * 2 * PATCH**2, generator=generator),
        "video_grid_thw": torch.tensor([[2, 4, 4]] * 2),
        "mm_token_type_ids": 2 * (ids == 98).int(),
    }
    with torch.no_grad():
        expected = ann(**batch).logits
    assert 0 < relative_error(run(snn, execution, **batch).logits, expected) < ACCURATE


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", ["BertModel", "LlamaForCausalLM"])
def test_boolean_masks(name: str, execution: str) -> None:
    """True for what may be attended to, [B, 1, S, S]."""
    ann, snn = pair_of(TINY_MODELS[name])
    batch = TINY_MODELS[name].batch(2, 3)
    length = batch["input_ids"].shape[1]
    batch["attention_mask"] = torch.ones(2, 1, length, length).tril().bool()
    with torch.no_grad():
        expected = ann(**batch)[0]
    assert 0 < relative_error(run(snn, execution, **batch)[0], expected) < ACCURATE


def test_attention_weights_are_refused() -> None:
    snn = pair_of(TINY_MODELS["BertModel"])[1]
    with pytest.raises(ValueError, match="no attention weights to return"):
        snn(**TINY_MODELS["BertModel"].batch(1, 1), output_attentions=True)
    run(snn, "temporal", **TINY_MODELS["BertModel"].batch(1, 1))


def left_padded(tiny: TinyModel) -> Batch:
    """Two prompts, the second with padding before it."""
    batch = tiny.batch(2, 4)
    if "pixel_values" in batch:
        return batch  # images lie at fixed places
    mask = torch.ones_like(batch["input_ids"])
    mask[1, :4] = 0
    return {"input_ids": batch["input_ids"] * mask, "attention_mask": mask}


@pytest.mark.parametrize("name", GENERATING)
class TestGeneration:
    """In fp64, where the two executions are one network: always the same tokens."""

    OPTIONS: ClassVar[dict[str, Any]] = {"max_new_tokens": 7, "pad_token_id": 0, "eos_token_id": None}

    @pytest.mark.parametrize(
        "way",
        [
            {"do_sample": False},
            {"do_sample": False, "num_beams": 3, "num_return_sequences": 2},
            {"do_sample": True, "top_k": 5},
            {"do_sample": False, "cache_implementation": "static"},
        ],
        ids=["greedy", "beams", "sampling", "static cache"],
    )
    def test_same_tokens(self, name: str, way: dict[str, Any]) -> None:
        tiny = TINY_MODELS[name]
        snn = pair_of(tiny)[1].double()
        batch = double(left_padded(tiny))
        results = []
        for execution in EXECUTIONS:
            for cached in (True, False):
                las_sj.set_execution(snn, execution)
                options = {**self.OPTIONS, **way}
                if not cached:
                    options.pop("cache_implementation", None)
                torch.manual_seed(5)
                results.append(snn.generate(**batch, **options, use_cache=cached))
        assert all(torch.equal(result, results[0]) for result in results[1:])

    def test_tokens_of_the_ann(self, name: str) -> None:
        tiny = TINY_MODELS[name]
        ann, snn = pair_of(tiny)
        batch = left_padded(tiny)
        expected = ann.generate(**batch, **self.OPTIONS, do_sample=False)
        las_sj.set_execution(snn, "accumulated")
        found = snn.generate(**batch, **self.OPTIONS, do_sample=False)
        new = found.shape[1] - batch["input_ids"].shape[1]
        assert (found == expected)[:, -new:].float().mean() > 0.8  # random weights leave near ties

    def test_cache_holds_coded_sums(self, name: str) -> None:
        """One copy of each key and value, in both executions, equal to the accumulated code."""
        tiny = TINY_MODELS[name]
        snn = pair_of(tiny)[1].double()
        batch = double(tiny.batch(2, 4))
        caches = []
        for execution in EXECUTIONS:
            output = run(snn, execution, **batch, use_cache=True)
            caches.append(output.get("cache", output.get("past_key_values")))
        assert len(caches[0].layers) == 2
        for first, second in zip(caches[0].layers, caches[1].layers, strict=True):
            assert first.keys.shape[0] == first.values.shape[0] == 2
            torch.testing.assert_close(first.keys, second.keys, rtol=0, atol=1e-12)
            torch.testing.assert_close(first.values, second.values, rtol=0, atol=1e-12)
