"""What models keep between calls: caches, states of convolutions and recurrences, outputs of an encoder."""

from functools import cache
from typing import Any

import generating_models
import pytest
import torch
from generating_models import MODELS, ann, batch_of, generate, prompt
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel, RwkvConfig, RwkvForCausalLM
from transformers.modeling_outputs import BaseModelOutput

import las_sj
from las_sj import StructureError
from las_sj.conversion.continuation import Continuation, check_continuation, continue_batch
from las_sj.models import execution_of
from las_sj.models.layers.foreign_hooks import sees_currents
from las_sj.models.operations.state import KeptState, register_state
from las_sj.models.operations.time_axis import TimeAxis, mark, time_axis_of

EXECUTIONS = ("temporal", "accumulated")
STATIC, BEAMS = {"cache_implementation": "static"}, {"num_beams": 2}
WAYS = [*((name, STATIC) for name in ("qwen3_moe", "gemma3", "t5", "bart")), ("bart", BEAMS), ("mamba", BEAMS)]


@cache
def spiking(name: str) -> Any:
    return generating_models.spiking(name)


@cache
def expected(name: str) -> Tensor:
    return generate(ann(name))


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", list(MODELS))
def test_greedy_tokens_are_the_anns(name: str, execution: str, use_cache: bool) -> None:
    model = spiking(name)
    las_sj.set_execution(model, execution)
    assert torch.equal(generate(model, use_cache=use_cache), expected(name))


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize(("name", "options"), WAYS)
def test_other_ways_to_generate(name: str, options: dict[str, Any], execution: str) -> None:
    model = spiking(name)
    las_sj.set_execution(model, execution)
    assert torch.equal(generate(model, **options), generate(ann(name), **options))


def test_padding_on_the_left() -> None:
    mask = torch.ones_like(prompt())
    mask[1, :2] = 0
    for execution in EXECUTIONS:
        las_sj.set_execution(spiking("gemma3"), execution)
        found = generate(spiking("gemma3"), attention_mask=mask)
        assert torch.equal(found, generate(ann("gemma3"), attention_mask=mask))


def tensors_of(cache: Any) -> list[Tensor]:
    """Of keys and values, or of states."""
    found: list[Tensor] = []
    for layer in cache.layers:
        for value in vars(layer).values():
            items = value.values() if isinstance(value, dict) else [value]
            found += [item for item in items if isinstance(item, Tensor) and item.dim() > 1]
    return found


def cache_of(model: PreTrainedModel, execution: str, **given: Any) -> Any:
    las_sj.set_execution(model, execution)
    with torch.no_grad():
        output = model(**given, use_cache=True)
    return output, output.cache


@pytest.mark.parametrize("name", ["gemma3", "qwen3_moe", "mamba"])
def test_caches_hold_sums(name: str) -> None:
    """One row for each sequence, in both executions; what one has filled the other continues."""
    model, ids = spiking(name), prompt()
    caches = {execution: cache_of(model, execution, input_ids=ids)[1] for execution in EXECUTIONS}
    kept = [tensors_of(caches[execution]) for execution in EXECUTIONS]
    assert len(kept[0]) > 0
    for temporal, accumulated in zip(*kept, strict=True):
        assert len(temporal) == len(ids)
        assert time_axis_of(temporal) is time_axis_of(accumulated) is None
        assert float((temporal - accumulated).norm() / accumulated.norm()) < 1e-3
    last = [
        cache_of(model, then, input_ids=ids[:, :1], cache=caches[before])[0].logits
        for before, then in zip(EXECUTIONS, reversed(EXECUTIONS), strict=True)
    ]
    assert float((last[0] - last[1]).norm() / last[1].norm()) < 1e-3


def test_static_memory_stays_where_it_is() -> None:
    """Graphs and users rely on its address."""
    model = spiking("mamba")
    _, kept = cache_of(model, "temporal", input_ids=prompt())
    state = kept.layers[0].recurrent_states[0]
    before = state.clone()
    cache_of(model, "temporal", input_ids=prompt()[:, :1], cache=kept)
    assert kept.layers[0].recurrent_states[0] is state
    assert not torch.equal(state, before)


@sees_currents
def fail(*_: Any) -> None:
    raise ZeroDivisionError


def test_a_call_that_fails_leaves_the_cache_as_it_was() -> None:
    model = spiking("qwen3_moe")
    _, kept = cache_of(model, "temporal", input_ids=prompt())
    before = [(tensor, tensor.clone()) for tensor in tensors_of(kept)]
    handle = model.lm_head.register_forward_pre_hook(fail)
    try:
        with pytest.raises(ZeroDivisionError):
            cache_of(model, "temporal", input_ids=prompt()[:, :1], cache=kept)
    finally:
        handle.remove()
    for tensor, (known, content) in zip(tensors_of(kept), before, strict=True):
        assert tensor is known
        assert torch.equal(tensor, content)


def test_attributes_of_modules_hold_sums() -> None:
    model = spiking("recurrent_gemma")
    for execution in EXECUTIONS:
        cache_free = generate(model)
        assert torch.equal(cache_free, expected("recurrent_gemma"))
        las_sj.set_execution(model, execution)
        model(prompt())
        kept = [module.recurrent_states for module in model.modules() if hasattr(module, "recurrent_states")]
        assert len(kept) > 0
        for state in kept:
            assert len(state) == len(prompt())
            assert time_axis_of(state) is None


@torch.no_grad()
def test_a_cache_that_mixes_sequences() -> None:
    """RWKV adds the state of each sequence to all of them; without its cache it is converted."""
    sizes = {"vocab_size": 64, "context_length": 32, "hidden_size": 16, "attention_hidden_size": 16}
    ann = RwkvForCausalLM(RwkvConfig(**sizes, num_hidden_layers=2, intermediate_size=24, bos_token_id=1)).eval()
    ann.generation_config.eos_token_id = None
    expected, tokens = ann(prompt()).logits, generate(ann, use_cache=False)
    with pytest.warns(UserWarning, match="RwkvForCausalLM generates without its cache only"):
        snn = las_sj.convert(ann, las_sj.LASConfig(headroom=3.0), [{"input_ids": prompt(seed)} for seed in range(4)])
    assert float((snn(prompt()).logits - expected).norm() / expected.norm()) < 1e-3
    assert torch.equal(generate(snn, use_cache=False), tokens)
    with pytest.raises((ValueError, RuntimeError), match="RwkvSelfAttention"):
        generate(snn)


# The state of one call


def test_all_of_a_value_comes_first() -> None:
    state, value = KeptState(rows=6, time_steps=3), torch.tensor([[1.0], [2.0]])
    given = state.taken((value, BaseModelOutput(last_hidden_state=value), {"ids": torch.tensor([[4], [5]])}))
    assert given[0].flatten().tolist() == [1, 2, 0, 0, 0, 0]
    assert time_axis_of(given[0]) == time_axis_of(given[1].last_hidden_state) == TimeAxis(0)
    assert given[2]["ids"].flatten().tolist() == [4, 5, 4, 5, 4, 5]
    assert torch.equal(state.summed(given)[0], value)
    assert torch.equal(state.summed(given)[2]["ids"], torch.tensor([[4], [5]]))


def test_other_rows_are_constants() -> None:
    state = KeptState(rows=6, time_steps=3)
    for value in (torch.ones(4, 1), torch.tensor(1.0)):
        assert state.taken(value) is value


def test_accumulated_state_is_the_memory_itself() -> None:
    state, value = KeptState(rows=2, time_steps=1), torch.ones(2, 1)
    current = state.taken(value)
    mark(current.mul_(3), TimeAxis(0))
    assert state.summed(current) is value
    assert value.tolist() == [[3], [3]]
    assert time_axis_of(value) is None


class Memory:
    """State of a model that somebody else wrote."""

    def __init__(self, held: Tensor) -> None:
        self.held = [held]


def test_register_state() -> None:
    value = torch.ones(2, 1)
    memory = Memory(value)
    assert KeptState(rows=6, time_steps=3).taken(memory).held[0] is value
    register_state(Memory)
    state = KeptState(rows=6, time_steps=3)
    assert len(state.taken(memory).held[0]) == 6
    state.put_back()
    assert memory.held[0] is value


# Found, checked and calibrated


def test_operations_of_a_continuation_are_found_where_there_are_some() -> None:
    assert execution_of(spiking("mamba")).operated.continues_apart
    assert not execution_of(spiking("qwen3_moe")).operated.continues_apart


def test_another_continuation_is_refused() -> None:
    """The negative control of the check."""
    model = spiking("qwen3_moe")
    las_sj.set_execution(model, "accumulated")
    batch = batch_of(model)
    tokens, logits = continue_batch(model, batch)
    check_continuation(
        model, batch, Continuation(tokens, tuple(x.clone() for x in continue_batch(ann("qwen3_moe"), batch).logits))
    )
    logits[1][0, 0] += 1.0
    with pytest.raises(StructureError, match=r"generated token \d \(accumulated\) differs from the ANN"):
        check_continuation(model, batch, Continuation(tokens, logits))


class Remembers(nn.Module):
    """It goes another way where it has a cache."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor, cache: DynamicCache | None = None) -> Tensor:
        y: Tensor = self.layer(x)
        return y if cache is None else torch.sigmoid(y)


def test_a_way_that_was_not_run_is_an_error() -> None:
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    model = las_sj.convert(Remembers(), calibration=[{"x": x}])
    model(x)
    with pytest.raises(RuntimeError, match=r"sigmoid in .*Remembers.forward was not run when the model was converted"):
        model(x, cache=DynamicCache())
