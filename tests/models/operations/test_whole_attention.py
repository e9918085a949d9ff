"""Attention as one operation: the same network as its operations one by one, and only where it is plain attention."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
    WhisperConfig,
    WhisperForConditionalGeneration,
)
from transformers.models.llama import modeling_llama

import las_sj
from las_sj.analysis import SpikeMonitor
from las_sj.conversion.continuation import continue_batch
from las_sj.models import running
from las_sj.models.layers import tiles
from las_sj.models.operations import known_attention
from las_sj.models.operations.known_attention import _is_plain
from las_sj.models.operations.whole_attention import WholeAttention

EXECUTIONS = ("accumulated", "temporal")


def whisper() -> tuple[PreTrainedModel, dict[str, Tensor]]:
    torch.manual_seed(0)
    sizes = {f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in
             (("layers", 1), ("attention_heads", 2), ("ffn_dim", 32))}  # fmt: skip
    config = WhisperConfig(
        vocab_size=64, d_model=16, num_mel_bins=8, max_source_positions=100, max_target_positions=32,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, suppress_tokens=None,
        begin_suppress_tokens=None, **sizes)  # fmt: skip
    batch = {"input_features": torch.randn(1, 8, 200), "decoder_input_ids": torch.randint(3, 64, (1, 24))}
    return WhisperForConditionalGeneration(config).eval(), batch


def t5() -> tuple[PreTrainedModel, dict[str, Tensor]]:
    """Positions are added to scores, by an argument that no other attention has."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0)  # fmt: skip
    ann = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in ann.parameters():
            parameter.normal_(0, 0.3)
    batch = {"input_ids": torch.randint(3, 64, (2, 12)), "decoder_input_ids": torch.randint(3, 64, (2, 9))}
    return ann, batch


def llama() -> tuple[PreTrainedModel, dict[str, Tensor]]:
    """Two heads of queries for each of keys, and padding."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, pad_token_id=0)  # fmt: skip
    ids = torch.randint(3, 64, (2, 40))
    mask = torch.ones_like(ids)
    mask[1, :7] = 0
    return LlamaForCausalLM(config).eval(), {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}


# Attentions of a call, and of each further token: Whisper's encoder is called once.
MODELS: dict[str, tuple[Callable[[], tuple[PreTrainedModel, dict[str, Tensor]]], int, int]] = {
    "whisper": (whisper, 3, 2),
    "llama": (llama, 2, 2),
}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PreTrainedModel]:
    """As they are loaded."""
    loaded = {}
    for name, (make, _, _) in MODELS.items():
        folder = tmp_path_factory.mktemp(name)
        ann, batch = make()
        snn = las_sj.convert(ann, las_sj.LASConfig(by_operations=True), [batch])
        snn.save_pretrained(folder)
        loaded[name] = type(ann).from_pretrained(folder)
        for execution in EXECUTIONS:
            with running(snn, execution), running(loaded[name], execution), torch.no_grad():
                assert torch.equal(snn(**batch).logits, loaded[name](**batch).logits)
    return loaded


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of tiles of each attention that ran as one operation."""
    found: list[int] = []
    attend, of_tile = WholeAttention._attend, WholeAttention._of_tile

    def attends(*args: Any) -> None:
        found.append(0)
        attend(*args)

    def one_more(*args: Any) -> Tensor:
        found[-1] += 1
        return of_tile(*args)

    monkeypatch.setattr(WholeAttention, "_attend", attends)
    monkeypatch.setattr(WholeAttention, "_of_tile", one_more)
    return found


@torch.no_grad()
@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("small", [False, True])
def test_it_is_what_its_operations_are(
    networks: dict[str, PreTrainedModel],
    runs: list[int],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    execution: str,
    small: bool,
) -> None:
    snn, (make, first, further) = networks[name], MODELS[name]
    ann, batch = make()
    live = batch.get("attention_mask", torch.ones_like(batch.get("decoder_input_ids", torch.ones(1)))).bool()
    if small:
        monkeypatch.setattr(tiles, "_ON_PROCESSOR", 1)
        monkeypatch.setattr(tiles, "_LEAST", 16)
    with running(snn, execution):
        at_once, tokens = snn(**batch).logits[live], continue_batch(snn, batch, 6).tokens
        found = 2 * first + 5 * further  # a call, and generation with its own cache
        assert len(runs) == found
        assert (min(runs[:first]) > 1) == small
        monkeypatch.setattr(known_attention, "_at_once", lambda *args: None)
        one_by_one = snn(**batch).logits[live]
        assert torch.equal(tokens, continue_batch(snn, batch, 6).tokens)
    expected = ann(**batch).logits[live]
    assert len(runs) == found
    errors = [float((output - expected).norm() / expected.norm()) for output in (at_once, one_by_one)]
    assert errors[0] < 1.2 * errors[1] < 1e-3
    assert float((at_once - one_by_one).norm() / expected.norm()) < 1.5 * errors[1]


@torch.no_grad()
@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", MODELS)
def test_in_double_precision_both_ways_agree(
    networks: dict[str, PreTrainedModel], monkeypatch: pytest.MonkeyPatch, name: str, execution: str
) -> None:
    """All terms of all steps sum to the product of the sums over the window, which softmax is given instead."""
    snn = copy.deepcopy(networks[name]).double()
    batch = {key: x.double() if x.is_floating_point() else x for key, x in MODELS[name][0]()[1].items()}
    live = batch.get("attention_mask", torch.ones(1, 24)).bool()
    with running(snn, execution):
        at_once = snn(**batch).logits[live]
        monkeypatch.setattr(known_attention, "_at_once", lambda *args: None)
        one_by_one = snn(**batch).logits[live]
    assert float((at_once - one_by_one).norm() / one_by_one.norm()) < 1e-9


@torch.no_grad()
@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_both_ways_agree(
    networks: dict[str, PreTrainedModel],
    runs: list[int],
    monkeypatch: pytest.MonkeyPatch,
    execution: str,
    dtype: torch.dtype,
) -> None:
    """To some roundings of what goes from layer to layer; masks are added in the precision of scores."""
    snn, (ann, batch) = copy.deepcopy(networks["llama"]).to(dtype), llama()
    live, expected = batch["attention_mask"].bool(), ann(**batch).logits
    with running(snn, execution):
        at_once = snn(**batch).logits
        assert len(runs) == 2
        monkeypatch.setattr(known_attention, "_at_once", lambda *args: None)
        one_by_one = snn(**batch).logits
    errors = [float((output.float() - expected)[live].norm() / expected.norm()) for output in (at_once, one_by_one)]
    assert errors[0] < 1.2 * errors[1] < 0.1


def longer(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, scaling: float, **others: Any) -> Any:
    """Other scores where there are many keys."""
    groups = query.shape[1] // key.shape[1]
    scale = scaling * (1.5 if key.shape[2] > 8 else 1.0)
    scores = torch.matmul(query, key.repeat_interleave(groups, 1).transpose(2, 3)) * scale
    weights = nn.functional.softmax(scores + mask, -1)
    return torch.matmul(weights, value.repeat_interleave(groups, 1)).transpose(1, 2), None


@torch.no_grad()
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_what_noise_is_too_short_for_is_seen_in_the_first_call(
    runs: list[int], monkeypatch: pytest.MonkeyPatch, execution: str
) -> None:
    monkeypatch.setattr(modeling_llama, "eager_attention_forward", longer)
    ann, batch = llama()
    ann.set_attn_implementation("eager")
    with torch.no_grad():
        for parameter in ann.parameters():  # wide, so that scores matter
            parameter.copy_(torch.randn(parameter.shape) * (0.4 if parameter.dim() > 1 else 1.0))
    live = batch["attention_mask"].bool()
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(by_operations=True), [batch])
    runs.clear()
    expected = ann(**batch).logits[live]
    with running(snn, execution):
        for _ in range(2):
            found = snn(**batch).logits[live]
            assert float((found - expected).norm() / expected.norm()) < 1e-3
        assert len(runs) == 2  # each tried once, and left for its operations from then on
        short = {name: x[:, -6:] for name, x in batch.items()}
        expected = ann(**short).logits
        assert float((snn(**short).logits - expected).norm() / expected.norm()) < 1e-3


@torch.no_grad()
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_bool_masks_hide_pairs(networks: dict[str, PreTrainedModel], execution: str) -> None:
    """As sdpa takes them, [B, 1, S_q, S_k], True where a pair takes part."""
    snn, (ann, batch) = networks["llama"], llama()
    ids = batch["input_ids"]
    mask = torch.ones(2, 1, 40, 40, dtype=torch.bool).tril()
    mask[..., 10:] &= torch.ones(40, 30, dtype=torch.bool).tril(-4) | torch.eye(40, dtype=torch.bool)[:, 10:]
    expected = ann(input_ids=ids, attention_mask=mask).logits
    with running(snn, execution):
        found = snn(input_ids=ids, attention_mask=mask).logits
    assert float((found - expected).norm() / expected.norm()) < 1e-3


@torch.no_grad()
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_positions_as_an_option_are_added(execution: str, runs: list[int]) -> None:
    ann, batch = t5()
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(by_operations=True), [batch])
    expected = ann(**batch).logits
    with running(snn, execution):
        found = snn(**batch).logits
    assert float((found - expected).norm() / expected.norm()) < 1e-3
    assert not runs  # the option is no part of what noise says of a function


@torch.no_grad()
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_who_looks_on_sees_each_operation(
    networks: dict[str, PreTrainedModel], runs: list[int], execution: str
) -> None:
    snn, (_, batch) = networks["whisper"], whisper()
    attention = "model.encoder.layers.0.self_attn"
    with running(snn, execution):
        expected = snn(**batch).logits
        with SpikeMonitor(snn) as monitor:
            found = snn(**batch).logits
        assert len(runs) == 3
        assert monitor.sites[f"{attention}.spiking.softmax_1_probability"].spikes > 0
        assert float((found - expected).norm() / expected.norm()) < 1e-3
        handle = snn.get_submodule(f"{attention}.spiking.matmul_1_left").register_forward_hook(lambda *args: None)
        snn(**batch)
        handle.remove()
        assert len(runs) == 5


Given = tuple[nn.Module, Tensor, Tensor, Tensor, Tensor | None]


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    groups = query.shape[1] // key.shape[1]
    scores = torch.matmul(query, key.repeat_interleave(groups, 1).mT) * scaling
    scores = scores if mask is None else scores + mask
    weights = nn.functional.softmax(scores, -1)
    return torch.matmul(weights, value.repeat_interleave(groups, 1)).transpose(1, 2)


def plain(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, scaling: float, **others: Any) -> Any:
    return attend(query, key, value, mask, scaling), None


def with_options(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, scaling: float, **kw: Any) -> Any:
    return attend(query, key, value, mask, scaling + kw.get("more", 0.0)), None


def capped(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, scaling: float, **others: Any) -> Any:
    scores = torch.tanh(torch.matmul(query, key.mT) * scaling)
    return torch.matmul(torch.softmax(scores + mask, -1), value).transpose(1, 2), None


def with_a_sink(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, scaling: float, **kw: Any) -> Any:
    scores = torch.matmul(query, key.mT) * scaling + mask
    scores = torch.cat([scores, module.sinks.expand(*scores.shape[:-1], 1)], -1)
    return torch.matmul(torch.softmax(scores, -1)[..., :-1], value).transpose(1, 2), None


def with_a_gain(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, scaling: float, **kw: Any) -> Any:
    """The gain is 1, as long as nobody trains it."""
    return attend(query * module.sinks.exp(), key, value, mask, scaling), None


def causal(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, scaling: float, **others: Any) -> Any:
    hidden = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).triu(1)
    return attend(
        query,
        key,
        value,
        (0.0 if mask is None else mask) + torch.zeros(hidden.shape).masked_fill(hidden, -1e4),
        scaling,
    ), None


def windowed(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, scaling: float, **others: Any) -> Any:
    """It hides keys that are further away than noise has any."""
    hidden = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).triu(8)
    scores = (torch.matmul(query, key.mT) * scaling + mask).masked_fill(hidden, -1e4)
    return torch.matmul(torch.softmax(scores, -1), value).transpose(1, 2), None


def with_a_bias(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, scaling: float, bias: Any = None, **kw: Any
) -> Any:
    """T5's: positions are an option of their own."""
    return attend(query, key, value, mask if bias is None else mask + bias, scaling), None


def of_keys(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, scaling: float, **others: Any) -> Any:
    """The roles of queries and keys are exchanged within the product."""
    scores = torch.matmul(key, query.mT).mT * scaling + mask
    return torch.matmul(torch.softmax(scores, -1), value).transpose(1, 2), None


@pytest.mark.parametrize(
    ("function", "options", "known"),
    [
        (plain, {}, True),
        (plain, {"more": 1.0}, True),
        (plain, {"positions": torch.arange(3)}, True),  # which it does nothing with
        (with_options, {}, True),
        (with_options, {"more": 1.0}, False),
        (with_options, {"positions": torch.arange(3)}, False),
        (plain, {"scaling": [0.5]}, False),
        (capped, {}, False),
        (with_a_sink, {}, False),
        (with_a_gain, {}, False),
        (causal, {}, False),
        (of_keys, {}, False),
        (windowed, {}, False),
        (with_a_bias, {}, True),
        (with_a_bias, {"bias": torch.ones(7, 9)}, False),
    ],
)
def test_what_is_known(function: Any, options: dict[str, Any], known: bool) -> None:
    module = nn.Module()
    module.sinks = nn.Parameter(torch.zeros(1))
    query, key = torch.randn(2, 4, 7, 8), torch.randn(2, 4 if function is not plain else 2, 9, 8)
    for _ in range(2):
        assert _is_plain(function, module, query, key, torch.zeros(2, 1, 7, 9), {"scaling": 0.3, **options}) == known
