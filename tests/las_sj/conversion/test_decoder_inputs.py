"""What decoders after encoders are given: shifted texts, or what the model itself writes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_models import gpt2
from transformers import BartConfig, BartForConditionalGeneration, BartModel, T5Config, T5ForConditionalGeneration

from las_sj.conversion.decoder_inputs import WRITTEN, needs_decoder_inputs, with_decoder_inputs

VOCABULARY, START, END = 40, 2, 3
TOKENS: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": END,
    "decoder_start_token_id": START,
}
IDS = torch.randint(5, VOCABULARY, (2, 6), generator=torch.Generator().manual_seed(1))


def bart(kind: Any = BartForConditionalGeneration) -> Any:
    torch.manual_seed(0)
    layers = {f"{side}_{what}": 1 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    sizes = {
        "d_model": 16,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "max_position_embeddings": 64,
        "init_std": 0.5,
    }
    return kind(BartConfig(**TOKENS, **layers, **sizes, forced_eos_token_id=None, tie_word_embeddings=False)).eval()


def t5() -> Any:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    return T5ForConditionalGeneration(T5Config(**TOKENS, **sizes)).eval()


@torch.no_grad()
def greedy(model: Any, ids: torch.Tensor) -> list[int]:
    """Token by token, without a cache."""
    written = torch.tensor([[START]])
    while written.shape[1] <= WRITTEN and int(written[0, -1]) != END:
        logits = model(input_ids=ids, decoder_input_ids=written, use_cache=False).logits
        written = torch.cat([written, logits[:, -1:].argmax(-1)], 1)
    return written[0].tolist()


@pytest.mark.parametrize("build", [bart, t5])
def test_what_the_model_writes(build: Callable[[], Any]) -> None:
    model = build()
    batch = with_decoder_inputs(model, {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}, None)
    mask = batch.get("decoder_attention_mask", torch.ones_like(batch["decoder_input_ids"]))
    for row in range(2):
        assert batch["decoder_input_ids"][row][mask[row].bool()].tolist() == greedy(model, IDS[row : row + 1])
    with torch.no_grad():
        assert model(**batch).logits.shape == (*batch["decoder_input_ids"].shape, VOCABULARY)


def test_what_comes_after_the_end_is_padding() -> None:
    model = bart()
    with torch.no_grad():
        model.final_logits_bias[0, END] = 3.0  # a model that soon ends
    batch = with_decoder_inputs(model, {"input_ids": IDS}, None)
    ids, mask = batch["decoder_input_ids"], batch.get("decoder_attention_mask")
    assert mask is not None
    assert [int(row.sum()) for row in mask] == [row.tolist().index(END) + 1 for row in ids]


def test_texts_are_shifted() -> None:
    batch = with_decoder_inputs(bart(), {"input_ids": IDS}, torch.tensor([[7, 8, END]]))
    assert batch["decoder_input_ids"].tolist() == [[START, 7, 8]]
    begun = with_decoder_inputs(bart(), {"input_ids": IDS}, torch.tensor([[START, 7, 8, END]]))
    assert begun["decoder_input_ids"].tolist() == [[START, 7, 8]]


def test_without_a_head() -> None:
    batch = with_decoder_inputs(bart(BartModel), {"input_ids": IDS}, None)
    assert batch["decoder_input_ids"].tolist() == [[START, *row[:-1]] for row in IDS.tolist()]


def test_others_stay_as_they_are() -> None:
    assert not needs_decoder_inputs(gpt2())
    batch = {"input_ids": IDS}
    assert with_decoder_inputs(gpt2(), batch, None) is batch
    given = {"input_ids": IDS, "decoder_input_ids": IDS}
    assert with_decoder_inputs(bart(), given, None) is given
