"""Inputs for a model of any type, the richest first; a model is given the first that it takes."""

from collections.abc import Iterator

from every_type.batches import ROWS, TOKENS, Batch, Inputs, arguments_of, decoder_text, ones, random_ids
from every_type.configurations import option
from every_type.images import image_inputs, image_text_inputs
from every_type.sound import sound_inputs
from every_type.special_inputs import special_inputs
from every_type.weights import Model


def inputs_of(model: Model, mapping: str) -> Iterator[Inputs]:
    """What may be given to a model, as an entry of that mapping."""
    yield from special_inputs(model, mapping)
    if mapping == "image-text":
        yield from image_text_inputs(model)
    elif mapping == "image-classification":
        yield from image_inputs(model)
    elif mapping in ("speech-seq2seq", "ctc", "seq2seq-lm"):
        yield from sound_inputs(model)
    yield from _text_inputs(model)


def _text_inputs(model: Model) -> Iterator[Inputs]:
    if "input_ids" not in arguments_of(model):
        return
    longest = option(model.config, "max_position_embeddings", default=64)
    for length in (TOKENS, 64):
        if length <= max(longest, TOKENS):
            yield Inputs("text", lambda seed, length=length: _text(model, length, seed))  # type: ignore[misc]
    yield Inputs("text", lambda seed: _text(model, TOKENS, seed) | {"attention_mask": ones(ROWS, TOKENS)})


def _text(model: Model, length: int, seed: int) -> Batch:
    return {"input_ids": random_ids(length, seed)} | decoder_text(model, seed)
