"""A little of the evaluation data, kept with a converted model, so that it can be looked at without any other file."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from las_sj.data.batches import Batch

SAMPLE = "las_sample.safetensors"
TOKENS = 1024


class SampleError(ValueError):
    """There is no usable sample; the message says what to do."""


def save_sample(batches: Sequence[Batch], folder: Path, tokens: int = TOKENS) -> None:
    """Write the first batches, up to `tokens` tokens in all."""
    tensors: dict[str, Tensor] = {}
    left = tokens
    for number, batch in enumerate(batches):
        shape = batch["input_ids"].shape
        length = min(shape[1], left)
        taken = min(shape[0], left // length)
        for name, value in batch.items():
            if isinstance(value, Tensor) and value.shape == shape:
                tensors[f"{number}.{name}"] = value[:taken, :length].contiguous()
        left -= taken * length
        if left <= 0:
            break
    save_file(tensors, folder / SAMPLE)


def load_sample(folder: Path, known: int | None = None) -> list[dict[str, Tensor]]:
    """Read what `save_sample` wrote.

    Args:
        folder: of a converted model.
        known: tokens that the model has embeddings of, as `tokens_known` returns; None: whatever there is.

    Raises:
        SampleError: there is none, it cannot be read, or the model cannot be given it.
    """
    path = folder / SAMPLE
    if not path.exists():
        raise SampleError(f"{folder} has no {SAMPLE}: give a text with --text")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise SampleError(f"{path} cannot be read ({error}): give a text with --text") from None
    batches: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        batches.setdefault(int(number) if number.isdecimal() else -1, {})[name] = value
    if not batches or not all(_is_text(batch) for batch in batches.values()):
        raise SampleError(f"{path} holds no token ids: give a text with --text")
    if known is not None and not all(_is_within(batch["input_ids"], known) for batch in batches.values()):
        raise SampleError(f"{path} has tokens that this model does not know: give a text with --text")
    return [batch for _, batch in sorted(batches.items())]


def _is_text(batch: dict[str, Tensor]) -> bool:
    ids = batch.get("input_ids")
    if ids is None or ids.dtype != torch.int64 or ids.dim() != 2 or not ids.numel():
        return False
    mask = batch.get("attention_mask", torch.ones_like(ids))
    return mask.shape == ids.shape and bool(mask.any(1).all())


def _is_within(ids: Tensor, known: int) -> bool:
    return bool(((ids >= 0) & (ids < known)).all())
