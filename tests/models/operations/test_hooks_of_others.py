"""Hooks of others on models that are converted by operations: they see values, and what they return becomes currents."""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Olmo2Config, Olmo2ForCausalLM

import las_sj

EXECUTIONS = ("accumulated", "temporal")
SHIFT = torch.linspace(-0.02, 0.02, 32, dtype=torch.float64)  # about as large as what is there
Around = Callable[[Any], Any]


def shift_in_place(module: nn.Module, args: Any, output: Tensor) -> None:
    output.add_(SHIFT)


def put_after(place: str, hook: Any) -> Around:
    return lambda model: model.get_submodule(place).register_forward_hook(hook)


def put_before(place: str, hook: Any) -> Around:
    return lambda model: model.get_submodule(place).register_forward_pre_hook(hook)


HOOKS: dict[str, Around] = {
    "steering after a layer": put_after("model.layers.0", lambda module, args, output: output + SHIFT),
    "in place": put_after("model.layers.0.post_feedforward_layernorm", shift_in_place),
    "a projection, not linear": put_after("model.layers.1.mlp.gate_proj", lambda module, args, output: output.tanh()),
    "replaced": put_after("model.layers.1.mlp", lambda module, args, output: torch.zeros_like(output)),
    "before a norm": put_before("model.norm", lambda module, args: (args[0] * (1 + 20 * SHIFT),)),
    "the head": put_after("lm_head", lambda module, args, output: output.tanh()),
    "embeddings": put_after("model.embed_tokens", lambda module, args, output: output * 1.5 + SHIFT),
}


@cache
def models() -> tuple[Any, Any]:
    """An ANN, and what it became."""
    torch.manual_seed(0)
    config = Olmo2Config(vocab_size=128, hidden_size=32, intermediate_size=64, num_hidden_layers=2, eos_token_id=1)
    ann = Olmo2ForCausalLM(config).double().eval()
    settings = las_sj.LASConfig(time_steps=20, hg_tolerance=1e-7, headroom=60.0)
    return ann, las_sj.convert(copy.deepcopy(ann), settings, [{"input_ids": ids()}])


def ids() -> Tensor:
    return torch.randint(2, 100, (3, 12), generator=torch.Generator().manual_seed(1))


def logits_with(model: Any, around: Around) -> Tensor:
    handle = around(model)
    try:
        with torch.no_grad():
            found: Tensor = model(ids()).logits
    finally:
        handle.remove()
    return found


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", list(HOOKS))
def test_they_change_values_as_in_the_ann(name: str, execution: str) -> None:
    ann, spiking = models()
    las_sj.set_execution(spiking, execution)
    expected, found = logits_with(ann, HOOKS[name]), logits_with(spiking, HOOKS[name])
    assert float((found - expected).norm() / expected.norm()) < 1e-3


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_they_see_values(execution: str) -> None:
    ann, spiking = models()
    seen: list[Tensor] = []
    look = put_after("model.layers.1", lambda module, args, output: seen.append(output))
    las_sj.set_execution(spiking, execution)
    for model in (ann, spiking):
        logits_with(model, look)
    assert seen[0].shape == seen[1].shape
    assert float((seen[1] - seen[0]).norm() / seen[0].norm()) < 1e-3


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_one_that_only_looks_changes_nothing(execution: str) -> None:
    _, spiking = models()
    las_sj.set_execution(spiking, execution)
    with torch.no_grad():
        expected = spiking(ids()).logits
    assert torch.equal(logits_with(spiking, put_after("model.layers.0", lambda module, args, output: None)), expected)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_a_module_that_is_put_in_later_is_refused_by_name(execution: str) -> None:
    _, spiking = models()
    spiking = copy.deepcopy(spiking)
    las_sj.set_execution(spiking, execution)
    spiking.model.layers[0].mlp.down_proj = nn.Sequential(spiking.model.layers[0].mlp.down_proj, nn.Tanh())
    with torch.no_grad(), pytest.raises(RuntimeError, match="tanh in model.layers.0.mlp.*convert the model"):
        spiking(ids())
