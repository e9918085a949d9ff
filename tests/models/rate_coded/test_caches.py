"""Caches of networks of rate codes: beams, static caches, caches of the other execution; encoder-decoders have none."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from rate_coded_models import CACHE, convert_rates, opt
from tiny_models import Model, gpt2, llama, padding_mask, run, token_ids
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    DynamicCache,
    T5Config,
    T5ForConditionalGeneration,
)

import las_sj


def bart() -> Model:
    torch.manual_seed(0)
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    dims = {"vocab_size": 512, "d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    return BartForConditionalGeneration(BartConfig(**sizes, **dims, max_position_embeddings=64)).eval()


def t5() -> Model:
    torch.manual_seed(0)
    sizes = {"vocab_size": 512, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4}
    return T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=0)).eval()


def generated(snn: Model, **options: Any) -> torch.Tensor:
    """What a network writes after padded prompts of two rows."""
    las_sj.set_execution(snn, "temporal")
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    with torch.no_grad():
        tokens: torch.Tensor = snn.generate(
            token_ids(2, 5), attention_mask=mask, max_new_tokens=6, pad_token_id=0, **options
        )
    return tokens


@pytest.mark.parametrize(("make", "method"), [(gpt2, "fas"), (opt, "srp"), (llama, "cos")])
def test_beams_with_a_cache_are_those_without(make: Callable[[], Model], method: str) -> None:
    """All lanes of a sequence are reordered together."""
    snn = convert_rates(make().double(), method=method, time_steps=3)
    options = {"num_beams": 3, "num_return_sequences": 3, "do_sample": False}
    cached, whole = (generated(snn, use_cache=use, **options) for use in (True, False))
    assert torch.equal(cached, whole)


@pytest.mark.parametrize("make", [gpt2, llama])
def test_a_static_cache_holds_lanes_too(make: Callable[[], Model]) -> None:
    snn = convert_rates(make().double(), time_steps=3)
    options = {"num_beams": 2, "do_sample": False}
    static = generated(snn, cache_implementation="static", disable_compile=True, **options)
    assert torch.equal(static, generated(snn, use_cache=False, **options))


def test_a_cache_has_a_row_for_each_sequence() -> None:
    """Whether the call has made it, or was given an empty one; rows may be chosen, repeated and cut between calls."""
    snn = convert_rates(gpt2().double(), time_steps=3)
    ids = token_ids(2, 8)
    whole = run(snn, "temporal", input_ids=ids)[0]
    given = DynamicCache()
    for cache in ({}, {CACHE: given}):
        found = run(snn, "temporal", input_ids=ids[:, :6], use_cache=True, **cache)[CACHE]
        assert all(len(layer.keys) == 2 for layer in found.layers)
        found.crop(-1)
        found.batch_select_indices(torch.tensor([1]))
        found.batch_repeat_interleave(2)
        rest = run(snn, "temporal", input_ids=ids[[1, 1], 5:], **{CACHE: found})[0]
        torch.testing.assert_close(rest, whole[[1, 1], 5:])
    assert found is given


@pytest.mark.parametrize(("first", "then"), [("temporal", "accumulated"), ("accumulated", "temporal")])
def test_a_cache_of_the_other_execution_is_refused(first: str, then: str) -> None:
    snn = convert_rates(gpt2(), time_steps=4)
    cache = run(snn, first, input_ids=token_ids(2, 5), use_cache=True)[CACHE]
    with pytest.raises(ValueError, match=f"the cache is that of {first} calls"):
        run(snn, then, input_ids=token_ids(8 if first == "temporal" else 2, 1), **{CACHE: cache})
    again = run(snn, first, input_ids=token_ids(2, 1), **{CACHE: cache})[CACHE]  # as it was
    assert again.get_seq_length() == 6


def test_a_cache_of_other_time_steps_is_refused() -> None:
    one, other = (convert_rates(gpt2(), time_steps=steps) for steps in (4, 2))
    cache = run(one, "temporal", input_ids=token_ids(2, 5), use_cache=True)[CACHE]
    with pytest.raises(ValueError, match="keys of 4 time steps, the network 2"):
        run(other, "temporal", input_ids=token_ids(2, 1), **{CACHE: cache})


def test_a_call_that_fails_leaves_its_cache_for_sequences() -> None:
    snn = convert_rates(gpt2(), time_steps=3)
    cache = run(snn, "temporal", input_ids=token_ids(2, 5), use_cache=True)[CACHE]
    with pytest.raises(RuntimeError):
        run(snn, "temporal", input_ids=token_ids(3, 1), **{CACHE: cache})
    assert len(cache.layers[0].keys) == 2


@pytest.mark.parametrize("make", [bart, t5])
def test_an_encoder_that_has_run_before_is_refused_in_time(make: Callable[[], Model]) -> None:
    """Of its lanes only the mean is left; the accumulated execution generates."""
    batch = {"input_ids": token_ids(), "attention_mask": padding_mask("right")}
    decoder = {"decoder_input_ids": token_ids(seed=2)}
    snn = las_sj.convert(copy.deepcopy(make()), las_sj.FASConfig(time_steps=3), [batch | decoder])
    with torch.no_grad():
        encoded = snn.get_encoder()(**batch)
        with pytest.raises(NotImplementedError, match="takes no encoder_outputs"):
            snn(encoder_outputs=encoded, **decoder)
        with pytest.raises(NotImplementedError, match="cannot generate"):
            snn.generate(**batch, max_new_tokens=2)
        las_sj.set_execution(snn, "accumulated")
        assert snn.generate(**batch, max_new_tokens=2).shape[0] == 3
