"""Attention tile by tile gives what it gives with all scores at once: outputs, counts and gradients.

In fp64: libraries add products over fewer keys in another order, and in fp32 last digits flip spikes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from tiny_models import EXECUTIONS, Model, bert, convert_tiny, llama, relative_error, token_ids
from torch import Tensor
from transformers import (
    BertModel,
    DynamicCache,
    Gemma2Config,
    Gemma2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    StaticCache,
)

import las_sj
from las_sj.analysis import SpikeMonitor, audit
from las_sj.models.layers import tiles
from las_sj.models.layers.score_mask import ScoreMask
from las_sj.neurons import HGNode, OATNode, fused

TOKENS = 30
SIZES: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.2,
    "sliding_window": 7,
}
BUILDERS: dict[str, Callable[[], Model]] = {
    "llama": lambda: llama(num_key_value_heads=2),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES)).eval(),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, attn_logit_softcapping=5.0)).eval(),
    "bert": lambda: bert(BertModel),
}


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    """Converted models by name: grouped heads, a sliding window, capped scores, no order of tokens."""
    torch.manual_seed(0)
    return {name: convert_tiny(build().double()) for name, build in BUILDERS.items()}


def ids() -> Tensor:
    return torch.randint(1, 100, (3, TOKENS), generator=torch.Generator().manual_seed(1))


@contextmanager
def few_scores_at_once(queries: int = 8) -> Iterator[None]:
    """Within this context a tile has so many queries, and one head of keys."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "_ON_PROCESSOR", 1)
        patch.setattr(tiles, "_IN_TIME", 1)
        patch.setattr(tiles, "_LEAST", queries)
        yield


def padding(side: str) -> Tensor | None:
    """Sequences of 30, 19 and 11 tokens."""
    if side == "none":
        return None
    right = (torch.arange(TOKENS) < torch.tensor([[TOKENS], [19], [11]])).long()
    return right if side == "right" else right.flip(1)


def run(model: Model, execution: str, **batch: Any) -> Tensor:
    las_sj.set_execution(model, execution)
    with torch.no_grad():
        output: Tensor = model(**batch)[0]
    return output


@pytest.mark.parametrize("side", ["none", "right", "left"])
@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", BUILDERS)
def test_outputs_are_those_of_all_scores_at_once(
    models: dict[str, Model], name: str, execution: str, side: str
) -> None:
    mask = padding(side)
    expected = run(models[name], execution, input_ids=ids(), attention_mask=mask)
    with few_scores_at_once():
        found = run(models[name], execution, input_ids=ids(), attention_mask=mask)
    live = torch.ones(3, TOKENS, dtype=torch.bool) if mask is None else mask.bool()
    assert relative_error(found[live], expected[live]) < 1e-9
    assert found.isfinite().all()


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", BUILDERS)
def test_counts_are_those_of_all_scores_at_once(models: dict[str, Model], name: str, execution: str) -> None:
    found = []
    for queries in (TOKENS, 8):
        with few_scores_at_once(queries), SpikeMonitor(models[name]) as monitor:
            run(models[name], execution, input_ids=ids(), attention_mask=padding("right"))
        sites = monitor.sites.items()
        found.append({name: (site.spikes, site.neurons, site.synaptic_operations) for name, site in sites})
    assert found[0] == found[1]
    assert any("probability_node" in name and spikes > 0 for name, (spikes, *_) in found[0].items())


def given_masks() -> dict[str, Tensor]:
    """Masks [B, 1, S, S] that a user may bring: packed sequences, and biases that grow with the distance."""
    place = torch.arange(TOKENS)
    causal, least = place[:, None] >= place, torch.finfo(torch.float64).min
    packed = (causal & (place[:, None] // 13 == place // 13)).expand(3, 1, -1, -1)
    distance = (place[:, None] - place).abs().double()
    return {
        "bool": packed,
        "additive": torch.zeros(packed.shape, dtype=torch.float64).masked_fill_(
            ~packed, torch.finfo(torch.float64).min
        ),
        "biases": (-0.1 * distance).masked_fill(~packed, least),
        "a row of keys": padding("right")[:, None, None].bool(),  # type: ignore[index]
    }


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("kind", given_masks())
def test_masks_that_a_user_brings(models: dict[str, Model], kind: str, execution: str) -> None:
    mask = given_masks()[kind]
    expected = run(models["llama"], execution, input_ids=ids(), attention_mask=mask)
    with few_scores_at_once():
        found = run(models["llama"], execution, input_ids=ids(), attention_mask=mask)
    assert relative_error(found, expected) < 1e-9
    assert relative_error(found, run(models["llama"], execution, input_ids=ids())) > 0.1


@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")
@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_a_cache_goes_on(models: dict[str, Model], name: str, execution: str, static: bool) -> None:
    def both_calls() -> list[Tensor]:
        model = models[name]
        cache = StaticCache(config=model.config, max_cache_len=40) if static else DynamicCache(config=model.config)
        parts = ids().split([18, 11, 1], 1)
        return [run(model, execution, input_ids=part, past_key_values=cache, use_cache=True) for part in parts]

    expected = both_calls()
    with few_scores_at_once():
        found = both_calls()
    for part, whole in zip(found, expected, strict=True):
        assert relative_error(part, whole) < 1e-9


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_gradients_with_dropout(execution: str, checkpointing: bool) -> None:
    torch.manual_seed(0)
    model = convert_tiny(llama(num_key_value_heads=2, attention_dropout=0.3).double())
    las_sj.set_execution(model, execution)
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    gradients = []
    for queries in (TOKENS, 3):
        model.zero_grad()
        torch.manual_seed(3)
        with few_scores_at_once(queries):
            model(input_ids=token_ids(), labels=token_ids(), use_cache=False).loss.backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    whole, parts = gradients
    assert len(whole) > 10
    for name, gradient in whole.items():
        assert torch.allclose(parts[name], gradient, rtol=1e-9, atol=1e-9 * float(gradient.abs().max())), name


def test_an_audit_finds_spikes_in_tiles(models: dict[str, Model]) -> None:
    las_sj.set_execution(models["llama"], "temporal")
    with few_scores_at_once():
        assert audit(models["llama"], {"input_ids": ids()}).fully_spike_driven


def pairs(kind: str) -> Tensor:
    """Which pairs a mask leaves, [2, 1, 1, 50, 70]."""
    query, key = torch.arange(50)[:, None], torch.arange(70)
    return {
        "causal": (key <= query).expand(2, 1, 1, -1, -1),
        "window": ((key <= query) & (key > query - 9)).expand(2, 1, 1, -1, -1),
        "padded": torch.stack([(key <= query) & (key >= 21), (key <= query) & (key < 33)])[:, None, None],
        "scattered": torch.rand(2, 1, 1, 50, 70, generator=torch.Generator().manual_seed(0)) < 0.05,
        "nothing": torch.zeros(2, 1, 1, 50, 70, dtype=torch.bool),
    }[kind]


@pytest.mark.parametrize("size", [1, 16, 50])
@pytest.mark.parametrize("kind", ["causal", "window", "padded", "scattered", "nothing"])
def test_blocks_lose_no_pair(kind: str, size: int) -> None:
    """Of rows that see something, what is left of all blocks and not hidden is the mask."""
    visible = pairs(kind)
    mask = ScoreMask(visible)
    blocks = mask.blocks(size)
    assert [block.queries.stop for block in blocks] == [*range(size, 50, size), 50]
    left = torch.zeros_like(visible)
    for block in blocks:
        shown = torch.ones_like(visible[..., block.queries, block.keys])
        hidden = mask.part(slice(0, 2), slice(0, 1), block, torch.float32)
        if hidden is not None:
            scores = torch.zeros(shown.shape)
            shown = hidden.hide(scores, 1) == 0.0  # type: ignore[union-attr]
        left[..., block.queries, block.keys] = shown
    sees = visible.any(-1, keepdim=True)
    assert torch.equal(left & sees, visible & sees)


def test_blocks_leave_out_what_a_mask_empties() -> None:
    areas = {}
    for kind in ("causal", "window"):
        blocks = ScoreMask(pairs(kind)).blocks(8)
        areas[kind] = sum((b.queries.stop - b.queries.start) * (b.keys.stop - b.keys.start) for b in blocks)
    assert areas["causal"] < 0.5 * 50 * 70
    assert areas["window"] < 0.4 * 50 * 70


@pytest.fixture(params=[False, True], ids=["sums", "trains"])
def softmax(request: pytest.FixtureRequest) -> Callable[[Tensor], Tensor]:
    """The kernel, from scores [1, 1, 1, S_q, S_k] to probabilities."""
    mode = "m" if request.param else "s"
    nodes = (
        HGNode("exp", 8, -40.0, 0.0, step_mode=mode),
        OATNode(0.05, 1.0, 8, levels=15, step_mode=mode),
        HGNode("reciprocal", 8, step_mode=mode),
        OATNode(0.5, 1.0, 8, levels=15, step_mode=mode),
        OATNode(0.01, 1.001, 8, levels=15, step_mode=mode),
    )

    def run(scores: Tensor) -> Tensor:
        coded = fused.softmax(nodes, scores.unsqueeze(0), None, as_train=request.param)
        assert coded is not None
        return coded

    return run


def scores(rows: int, keys: int) -> Tensor:
    return torch.randn(1, 1, 1, rows, keys, generator=torch.Generator().manual_seed(0)) * 8


def test_softmax_without_hidden_keys_has_the_same_bits(softmax: Callable[[Tensor], Tensor]) -> None:
    """A row whose first 32 and last 9 keys are hidden."""
    hidden = scores(20, 1500)
    hidden[..., :32] = hidden[..., -9:] = -1e9
    whole, part = softmax(hidden), softmax(hidden[..., 32:-9].contiguous())
    assert torch.equal(whole[..., 32:-9], part)
    assert part.any()
    assert not whole[..., :32].any()
    assert not whole[..., -9:].any()


def test_softmax_of_many_rows_has_the_bits_of_few(softmax: Callable[[Tensor], Tensor]) -> None:
    """Of many, sub-neurons of exponentials are found without tables."""
    many = scores(300, 1500)
    many[..., 0, 3] = float("nan")
    many[..., 1, 7] = -torch.inf
    few = torch.cat([softmax(part.contiguous()) for part in many.split(100, -2)], -2)
    assert torch.equal(softmax(many).nan_to_num(-7.0), few.nan_to_num(-7.0))
