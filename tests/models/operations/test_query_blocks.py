"""Attention of many queries goes block by block: the same network, whichever blocks there are."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, WhisperConfig, WhisperForConditionalGeneration

import las_sj
from las_sj.analysis import SpikeMonitor
from las_sj.conversion.continuation import continue_batch
from las_sj.models import running
from las_sj.models.operations import known_attention, query_blocks
from las_sj.models.operations.query_blocks import attend_in_blocks

EXECUTIONS = ("accumulated", "temporal")


def whisper() -> WhisperForConditionalGeneration:
    torch.manual_seed(0)
    sizes = {f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in
             (("layers", 1), ("attention_heads", 2), ("ffn_dim", 32))}  # fmt: skip
    config = WhisperConfig(
        vocab_size=64, d_model=16, num_mel_bins=8, max_source_positions=100, max_target_positions=32,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, suppress_tokens=None,
        begin_suppress_tokens=None, **sizes)  # fmt: skip
    return WhisperForConditionalGeneration(config).eval()


def batch() -> dict[str, Any]:
    draws = torch.Generator().manual_seed(1)
    return {
        "input_features": torch.randn(1, 8, 200, generator=draws),
        "decoder_input_ids": torch.randint(3, 64, (1, 80), generator=draws)[:, :24],
    }


@pytest.fixture(scope="module")
def snn() -> PreTrainedModel:
    return las_sj.convert(whisper(), None, [batch()])


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Blocks of 16 queries, where there are more, of operations one by one.

    Tells of each attention with more whether it was split.
    """
    monkeypatch.setattr(known_attention, "_at_once", lambda *args: None)
    split: list[bool] = []
    decide = query_blocks._may_be_split

    def told(*args: Any) -> bool:
        split.append(decide(*args))
        return split[-1]

    monkeypatch.setattr(query_blocks, "_may_be_split", told)
    for name, value in (("ACCUMULATED", 1), ("TEMPORAL", 1), ("_LEAST", 16)):
        monkeypatch.setattr(query_blocks, name, value)
    return split


@torch.no_grad()
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_blocks_change_nothing(snn: PreTrainedModel, execution: str, request: pytest.FixtureRequest) -> None:
    with running(snn, execution):
        expected, tokens = snn(**batch())[0], continue_batch(snn, batch(), 6).tokens
        split = request.getfixturevalue("small_blocks")
        found = snn(**batch())[0]
        assert split == [True] * 3  # of 100 frames, and of 24 tokens to themselves and to the frames
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(continue_batch(snn, batch(), 6).tokens, tokens)


@torch.no_grad()
def test_monitors_see_all_queries_at_once(snn: PreTrainedModel, small_blocks: list[bool]) -> None:
    with SpikeMonitor(snn):
        snn(**batch())
    assert small_blocks == [False] * 3


def by_place(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **others: Any) -> Any:
    """What a query gets depends on how many there are after it."""
    last = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril(key.shape[2] - query.shape[2])
    scores = (query @ key.mT).masked_fill(~last, -1e4)
    return (torch.softmax(scores, -1) @ value).transpose(1, 2), None


def by_query(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **others: Any) -> Any:
    scores = query @ key.mT if mask is None else query @ key.mT + mask
    return (torch.softmax(scores, -1) @ value).transpose(1, 2), None


@pytest.mark.parametrize(("attention", "split"), [(by_query, True), (by_place, False)])
def test_only_what_is_the_same_is_split(attention: Any, split: bool, small_blocks: list[bool]) -> None:
    query, key, value = (torch.randn(1, 2, 40, 4) for _ in range(3))
    mask = torch.zeros(1, 1, 40, 40).masked_fill(~torch.ones(40, 40, dtype=torch.bool).tril(), -1e4)
    seen: list[int] = []

    def told(module: nn.Module, query: Tensor, *args: Any, **others: Any) -> Any:
        seen.append(query.shape[2])
        return attention(module, query, *args, **others)

    module = nn.Identity().eval()
    found = attend_in_blocks(told, module, query, key, value, mask)[0]
    torch.testing.assert_close(found, attention(module, query, key, value, mask)[0])
    assert seen == ([6, 2, 16, 16, 8] if split else [6, 2, 40])
    seen.clear()
    attend_in_blocks(told, module, query, key, value, mask, places=torch.arange(40))  # nothing tells whose they are
    assert seen == [40]
