"""Batches: what a model is called with."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Batch = Mapping[str, Any]  # a model's keyword arguments, as a tokenizer returns them


def to_device(batch: Batch, device: torch.device) -> dict[str, Any]:
    """Move the tensors of a batch."""
    return {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}


LARGE = 50_000  # numbers


def is_large(batch: Batch) -> bool:
    """Whether the float inputs of a batch, images or sound, hold so many numbers that each call takes its time."""
    tensors = [value for value in batch.values() if isinstance(value, Tensor)]
    return sum(value.numel() for value in tensors if value.is_floating_point()) > LARGE


OF_TEXT = {"input_ids", "attention_mask", "token_type_ids", "position_ids", "labels"}
OF_DECODER = {"decoder_input_ids", "decoder_attention_mask"}


def is_of_text(batch: Batch) -> bool:
    """Whether a batch holds tokens, and nothing that is not a row of text for each."""
    return "input_ids" in batch and not {*batch} - OF_TEXT - OF_DECODER - {"use_cache"}


def mask_of(batch: Batch, output: Tensor) -> Tensor | None:
    """Which rows of an output are not padding, bool [B, S]; None where the batch has no mask of what comes out.

    Args:
        batch: keyword arguments of a call.
        output: of the call, [B, S, C] where it has rows of tokens.
    """
    mask = batch.get("decoder_attention_mask" if "decoder_input_ids" in batch else "attention_mask")
    if not isinstance(mask, Tensor) or output.dim() != 3 or mask.shape != output.shape[:2]:
        return None
    return mask.bool()


def without_padding(batch: Batch, output: Tensor) -> Tensor:
    """An output without its padding: [N, C] of one with a mask; arguments are those of `mask_of`."""
    mask = mask_of(batch, output)
    return output if mask is None else output[mask.to(output.device)]


def shortened(batch: Batch, tokens: int) -> dict[str, Any]:
    """The first row of a batch, up to `tokens` tokens of a text from its first that is not padding.

    What holds no text is not cut; batches whose tensors have no common rows, as with packed images, stay as they are.
    """
    of_text, rows = is_of_text(batch), len(next(value for value in batch.values() if isinstance(value, Tensor)))
    if not of_text and any(isinstance(value, Tensor) and len(value) != rows for value in batch.values()):
        return dict(batch)
    mask = batch.get("attention_mask")
    start = int(mask[0].bool().int().argmax()) if of_text and isinstance(mask, Tensor) and mask.dim() == 2 else 0
    cuts = dict.fromkeys(OF_TEXT, slice(start, start + tokens)) if of_text else {}
    cuts |= dict.fromkeys(OF_DECODER, slice(tokens))
    short = {}
    for name, value in batch.items():
        if isinstance(value, Tensor) and len(value) == rows:
            value = value[:1]
            if name in cuts and value.dim() == 2:
                value = value[:, cuts[name]]
        short[name] = value
    return short


def first_tokens(batches: Sequence[Batch], tokens: int, window: int) -> list[Batch]:
    """The first of some batches of text, sequences cut to `window` tokens, until there are `tokens`; others whole."""
    cut: list[Batch] = []
    for batch in batches:
        if tokens <= 0:
            break
        if not is_of_text(batch):
            cut.append(batch)
            continue
        length = min(window, tokens, batch["input_ids"].shape[1])
        rows = max(1, min(len(batch["input_ids"]), tokens // length))
        cut.append({name: value[:rows, :length] for name, value in batch.items()})
        tokens -= rows * length
    return cut
