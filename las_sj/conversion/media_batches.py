"""Batches of images, sounds or pairs as a model takes them, with tokens for its decoder where it has one."""

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedModel

from las_sj.conversion.decoder_inputs import with_decoder_inputs
from las_sj.data.examples import Example
from las_sj.data.modalities import Modalities
from las_sj.data.processed import accepted, processed_batches
from las_sj.data.processors import Processors
from las_sj.data.text import check_ids, tokens_known


def media_batches(
    model: PreTrainedModel, processors: Processors, takes: Modalities, examples: Sequence[Example], batch_size: int
) -> list[dict[str, Tensor]]:
    """Batches of examples.

    A text that goes with an image or a sound is what the decoder writes, where the model takes no text otherwise.

    Args:
        model: that is to be called.
        processors: of the model.
        takes: what it takes.
        examples: images, sounds or pairs.
        batch_size: images of a batch, where they come without texts.

    Raises:
        ExampleError: one of them cannot be used.
        TextError: the tokenizer is not that of the model.
    """
    size = 1 if any(example.text for example in examples) else batch_size
    batches = processed_batches(processors, takes, examples, size)
    texts = [example.text for example in examples] if len(batches) == len(examples) else [None] * len(batches)
    written = [None if takes.text else _tokens(processors, text) for text in texts]
    return [model_batch(model, batch, tokens) for batch, tokens in zip(batches, written, strict=True)]


def model_batch(model: PreTrainedModel, batch: dict[str, Tensor], written: Tensor | None = None) -> dict[str, Tensor]:
    """What a model takes of a batch, with tokens for its decoder.

    Args:
        model: that is to be called.
        batch: as tokenizers and processors return.
        written: tokens that its decoder is to write; None: those that the model itself writes.
    """
    complete = with_decoder_inputs(model, accepted(type(model), batch, model.dtype), written)
    for name in ("input_ids", "decoder_input_ids"):
        if name in complete:
            check_ids(complete[name], tokens_known(model))
    return complete


def _tokens(processors: Processors, text: str | None) -> Tensor | None:
    """Tokens of a text, [1, S]; None where there are none."""
    if not text or processors.tokenizer is None:
        return None
    ids: Tensor = processors.tokenizer(text, return_tensors="pt")["input_ids"]
    return ids if ids.numel() else None
