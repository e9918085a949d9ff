"""What a decoder after an encoder is given: the text that goes with an input, or what the model itself makes of it."""

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin, PreTrainedModel

from las_sj.checkpoint.placement import input_device
from las_sj.data.batches import Batch, to_device

WRITTEN = 24  # tokens that a model writes, at most


def needs_decoder_inputs(model: PreTrainedModel) -> bool:
    """Whether a model has a decoder after an encoder, which takes tokens of its own."""
    parameters = inspect.signature(type(model).forward).parameters
    return bool(model.config.is_encoder_decoder) and "decoder_input_ids" in parameters


def with_decoder_inputs(model: PreTrainedModel, batch: dict[str, Tensor], written: Tensor | None) -> dict[str, Tensor]:
    """A batch with tokens for the decoder, where the model has one: [B, S'], after the token that begins a text.

    Args:
        model: to convert.
        batch: of what goes into its encoder.
        written: tokens of the texts that go with the batch, [B, S']; None: greedy ones of the model itself.
    """
    if not needs_decoder_inputs(model) or "decoder_input_ids" in batch:
        return batch
    if written is not None:
        ids = _shifted(model, written)
    elif model.can_generate():
        ids = greedy_tokens(model, batch)
    else:
        ids = _shifted(model, _any_tokens(model, batch))
    mask = _written_mask(model, ids)
    return batch | {"decoder_input_ids": ids} | ({} if bool(mask.all()) else {"decoder_attention_mask": mask})


def _shifted(model: PreTrainedModel, written: Tensor) -> Tensor:
    """Tokens after the one that begins a text, without the last, as a model is trained; unless they begin with it."""
    start = start_token(model)
    if bool((written[:, 0] == start).all()):
        return written[:, :-1] if written.shape[1] > 1 else written
    return torch.cat([torch.full_like(written[:, :1], start), written[:, :-1]], 1)


def start_token(model: PreTrainedModel) -> int:
    """The token that a decoder begins with."""
    config = model.config.get_text_config(decoder=True)
    found = (
        getattr(owner, name, None)
        for name in ("decoder_start_token_id", "bos_token_id", "pad_token_id")
        for owner in (getattr(model, "generation_config", None), model.config, config)
    )
    return next((int(token) for token in found if isinstance(token, int)), 0)


@torch.no_grad()
def greedy_tokens(model: PreTrainedModel, batch: Batch) -> Tensor:
    """What a model writes, [B, S']: greedy tokens, without rules of its own class, which cut what it says of speech.

    Args:
        model: with a decoder after an encoder.
        batch: of what goes into its encoder.
    """
    output: Any = GenerationMixin.generate(
        model,  # type: ignore[arg-type]
        **to_device(batch, input_device(model)),
        decoder_start_token_id=start_token(model),
        do_sample=False,
        num_beams=1,
        max_new_tokens=WRITTEN,
        max_length=None,
    )
    assert isinstance(output, Tensor)
    return output.cpu()


def _any_tokens(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Tokens for a decoder without a head: those of the encoder, or random ones."""
    ids = batch.get("input_ids")
    if isinstance(ids, Tensor):
        return ids
    rows = len(next(value for value in batch.values() if isinstance(value, Tensor)))
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    return torch.randint(vocabulary, (rows, WRITTEN), generator=torch.Generator().manual_seed(0))


def _written_mask(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """1 up to the first end of a text in each row, 0 after it, [B, S']; the first token begins the text."""
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ends = model.config.get_text_config(decoder=True).eos_token_id if ends is None else ends
    if ends is None:
        return torch.ones_like(ids)
    is_end = torch.isin(ids, torch.tensor(ends).flatten())
    is_end[:, 0] = False
    return ((is_end.cumsum(1) - is_end.long()) == 0).long()
