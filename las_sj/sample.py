"""A little of the evaluation data, kept with a converted model, so that it can be looked at without any other file."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from las_sj.calibration import Batch

SAMPLE = "las_sample.safetensors"
TOKENS = 1024


class SampleError(ValueError):
    """There is no usable sample; the message says what to do."""


def save_sample(batches: Sequence[Batch], folder: Path, tokens: int = TOKENS) -> None:
    """Write the first batches, up to `tokens` tokens in all."""
    tensors: dict[str, Tensor] = {}
    left = tokens
    for number, batch in enumerate(batches):
        rows = len(batch["input_ids"])
        length = batch["input_ids"].shape[1]
        taken = min(rows, max(1, left // max(length, 1)))
        for name, value in batch.items():
            if isinstance(value, Tensor) and len(value) == rows:
                tensors[f"{number}.{name}"] = value[:taken, :tokens].contiguous()
        left -= taken * length
        if left <= 0:
            break
    save_file(tensors, folder / SAMPLE)


def load_sample(folder: Path) -> list[dict[str, Tensor]]:
    """Read what `save_sample` wrote.

    Raises:
        SampleError: there is none, or it cannot be read.
    """
    path = folder / SAMPLE
    if not path.exists():
        raise SampleError(f"{folder} has no {SAMPLE}: give a text with --text")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise SampleError(f"{path} cannot be read ({error}): give a text with --text") from None
    batches: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        batches.setdefault(number, {})[name] = value
    found = [batch for _, batch in sorted(batches.items(), key=lambda item: int(item[0]))]
    if not found or not all(batch["input_ids"].dtype == torch.int64 for batch in found):
        raise SampleError(f"{path} holds no token ids: give a text with --text")
    return found
