"""Batches: what a model is called with."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Batch = Mapping[str, Any]  # a model's keyword arguments, as a tokenizer returns them


def to_device(batch: Batch, device: torch.device) -> dict[str, Any]:
    """Move the tensors of a batch."""
    return {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}


def shortened(batch: Batch, tokens: int) -> dict[str, Any]:
    """The first row of a batch, up to `tokens` tokens of it, from its first that is not padding."""
    mask = batch.get("attention_mask")
    start = int(mask[0].bool().int().argmax()) if isinstance(mask, Tensor) and mask.dim() == 2 else 0
    rows = len(next(value for value in batch.values() if isinstance(value, Tensor)))
    short = {}
    for name, value in batch.items():
        is_rows = isinstance(value, Tensor) and len(value) == rows
        short[name] = (value[:1, start : start + tokens] if value.dim() == 2 else value[:1]) if is_rows else value
    return short


def first_tokens(batches: Sequence[Batch], tokens: int, window: int) -> list[Batch]:
    """The first of some batches of text, sequences cut to `window` tokens, until there are `tokens`."""
    cut: list[Batch] = []
    for batch in batches:
        if tokens <= 0:
            break
        length = min(window, tokens, batch["input_ids"].shape[1])
        rows = max(1, min(len(batch["input_ids"]), tokens // length))
        cut.append({name: value[:rows, :length] for name, value in batch.items()})
        tokens -= rows * length
    return cut
