"""What must not break a converted model, and what must be refused."""

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_models import (
    EXECUTIONS,
    MODELS,
    Model,
    bert,
    calibration_batches,
    convert_tiny,
    gpt2,
    relative_error,
    run,
    token_ids,
)
from torch import nn
from transformers import (
    BertLMHeadModel,
    GPT2Model,
    PreTrainedModel,
)

import las_sj
from las_sj import UnsupportedModelError
from las_sj.models import FAMILIES, Family, SpikingLayer, execution_of, register_family


@pytest.fixture
def snn() -> Model:
    return convert_tiny(gpt2())


class TestDeepCopy:
    def test_same_outputs(self, snn: Model) -> None:
        clone = copy.deepcopy(snn)
        for execution in EXECUTIONS:
            expected = run(snn, execution, input_ids=token_ids()).logits
            assert torch.equal(run(clone, execution, input_ids=token_ids()).logits, expected)

    def test_independent(self, snn: Model) -> None:
        clone = copy.deepcopy(snn)
        las_sj.set_execution(clone, "accumulated")
        assert execution_of(snn).step_mode == "m"
        assert execution_of(clone).step_mode == "s"
        expected = run(snn, "temporal", input_ids=token_ids()).logits
        with torch.no_grad():
            for parameter in clone.parameters():
                parameter.zero_()
        assert torch.equal(run(snn, "temporal", input_ids=token_ids()).logits, expected)

    def test_layers_share_the_execution_of_their_own_model(self, snn: Model) -> None:
        clone = copy.deepcopy(snn)
        layers = [module for module in clone.modules() if isinstance(module, SpikingLayer)]
        assert len(layers) > 10
        assert all(layer.execution is execution_of(clone) for layer in layers)
        assert execution_of(clone.base_model) is execution_of(clone)
        assert execution_of(clone) is not execution_of(snn)


def break_off(model: nn.Module, error: BaseException) -> Callable[[], None]:
    """Make the model's last layer raise; returns what undoes it."""

    def hook(module: nn.Module, args: Any) -> None:
        raise error

    return model.get_submodule("transformer.h.1.mlp").register_forward_pre_hook(hook).remove


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()], ids=["error", "interrupt"])
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_usable_after_an_exception(snn: Model, execution: str, error: BaseException) -> None:
    expected = run(snn, execution, input_ids=token_ids()).logits
    for inner in (snn, snn.base_model):
        repair = break_off(snn, error)
        with pytest.raises(type(error)), torch.no_grad():
            inner(token_ids())
        repair()
        with torch.no_grad():
            inner(token_ids())
        assert torch.equal(run(snn, execution, input_ids=token_ids()).logits, expected)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_inner_model_after_an_interrupt_of_the_outer(snn: Model, execution: str) -> None:
    las_sj.set_execution(snn, execution)
    with torch.no_grad():
        expected = snn.base_model(token_ids())[0]
        repair = break_off(snn, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            snn(token_ids())
        repair()
        assert torch.equal(snn.base_model(token_ids())[0], expected)


def test_usable_after_wrong_arguments(snn: Model) -> None:
    expected = run(snn, "temporal", input_ids=token_ids()).logits
    wrong: list[dict[str, Any]] = [{}, {"input_ids": token_ids() + 1000}, {"no_such_argument": 1}]
    for arguments in wrong:
        with pytest.raises((ValueError, IndexError, TypeError)):
            snn(**arguments)
    assert torch.equal(run(snn, "temporal", input_ids=token_ids()).logits, expected)


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_other_attention_after_conversion(snn: Model, execution: str, implementation: str) -> None:
    expected = run(snn, execution, input_ids=token_ids()).logits
    snn.set_attn_implementation(implementation)
    with pytest.raises(RuntimeError, match=f"changed to '{implementation}'.*set_attn_implementation\\('las_sj'\\)"):
        snn(token_ids())
    snn.set_attn_implementation("las_sj")
    assert torch.equal(run(snn, execution, input_ids=token_ids()).logits, expected)


def cache_of(output: Any) -> Any:
    """Its name was changed in transformers 5.24."""
    return output.get("cache", output.get("past_key_values"))


def with_cache(model: Model, cache: Any) -> dict[str, Any]:
    """The cache as an argument."""
    named = "cache" in inspect.signature(model.forward).parameters
    return {"cache" if named else "past_key_values": cache}


@pytest.mark.parametrize("later", EXECUTIONS)
@pytest.mark.parametrize("first", EXECUTIONS)
def test_cached_call_is_the_whole_call(snn: Model, first: str, later: str) -> None:
    """Also where the cache was filled in the other execution."""
    snn.double()
    ids = token_ids()
    whole = run(snn, "accumulated", input_ids=ids).logits
    cache = cache_of(run(snn, first, input_ids=ids[:, :6], use_cache=True))
    assert cache.get_seq_length() == 6
    rest = run(snn, later, input_ids=ids[:, 6:], **with_cache(snn, cache)).logits
    assert cache.get_seq_length() == 10
    torch.testing.assert_close(rest, whole[:, 6:], rtol=0, atol=1e-9)


@pytest.mark.parametrize("execution", ["", "m", "fast", None])
def test_unknown_execution(snn: Model, execution: Any) -> None:
    with pytest.raises(ValueError, match="execution must be one of temporal, accumulated, got"):
        las_sj.set_execution(snn, execution)


def test_not_converted() -> None:
    ann = gpt2()
    for call in (lambda: las_sj.set_execution(ann, "temporal"), lambda: execution_of(ann)):
        with pytest.raises(ValueError, match="GPT2LMHeadModel is not a converted model"):
            call()


def test_convert_twice(snn: Model) -> None:
    expected = run(snn, "temporal", input_ids=token_ids()).logits
    with pytest.raises(UnsupportedModelError, match="converted already"):
        las_sj.convert(snn, None, calibration_batches())
    assert torch.equal(run(snn, "temporal", input_ids=token_ids()).logits, expected)


@pytest.mark.parametrize(
    "build",
    [
        lambda: bert(BertLMHeadModel, is_decoder=True, use_cache=False),
        lambda: gpt2(scale_attn_by_inverse_layer_idx=True, use_cache=False),
        lambda: gpt2(scale_attn_weights=False, use_cache=False),
    ],
)
@torch.no_grad()
def test_options_that_the_family_does_not_know(build: Callable[[], PreTrainedModel]) -> None:
    """Such models are converted by operations."""
    ann = build()
    snn = las_sj.convert(copy.deepcopy(ann), None, calibration_batches())
    assert execution_of(snn).operated is not None
    expected = ann(input_ids=token_ids())[0]
    for execution in ("accumulated", "temporal"):
        assert relative_error(run(snn, execution, input_ids=token_ids())[0], expected) < 1e-3


def test_nothing_to_convert() -> None:
    config = las_sj.LASConfig(keep_analog=("ln_f",))
    with pytest.raises(UnsupportedModelError, match="GPT2Model has no layer that can be converted"):
        las_sj.convert(gpt2(GPT2Model, n_layer=0), config, calibration_batches())


def test_register_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """A family is one entry: GPT-2 under another name."""
    monkeypatch.setattr("las_sj.models.registry.FAMILIES", FAMILIES.copy())
    family = Family(model_types=("other",), attention={"GPT2Attention": ()})
    assert register_family(family) is family
    model = gpt2()
    model.config.model_type = "other"
    snn: Model = las_sj.convert(model, None, calibration_batches())
    assert snn.las_coverage.analog == {}
    assert "other" not in FAMILIES


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_interrupted_in_the_head(execution: str) -> None:
    """torch runs no hook where an interrupt ends a call; every door into the model must find that out."""
    snn, ids = convert_tiny(MODELS["llama"]()), token_ids(16)
    las_sj.set_execution(snn, execution)

    def interrupt(*seen: object) -> None:
        raise KeyboardInterrupt

    with torch.no_grad():
        expected = {door: door(input_ids=ids)[0] for door in (snn, snn.model)}
        for first, place in ((snn, snn.lm_head), (snn.model, snn.model.norm)):
            for door in (snn.model, snn):
                handle = place.register_forward_pre_hook(interrupt)
                with pytest.raises(KeyboardInterrupt):
                    first(input_ids=ids)
                handle.remove()
                assert torch.equal(door(input_ids=ids)[0], expected[door])


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_a_hook_may_call_the_model_again(execution: str) -> None:
    snn, outer, inner = convert_tiny(MODELS["llama"]()), token_ids(2), token_ids(1, 6, seed=5)
    expected = [run(snn, execution, input_ids=ids)[0] for ids in (outer, inner)]
    found = []

    def again(*seen: object) -> None:
        handle.remove()
        found.append(snn(input_ids=inner)[0])

    handle = snn.model.layers[1].register_forward_pre_hook(again)
    assert torch.equal(run(snn, execution, input_ids=outer)[0], expected[0])
    assert torch.equal(found[0], expected[1])
