"""A little of the evaluation data, kept with a converted model, so that it can be looked at without any other file."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from las_sj.data.batches import Batch, is_of_text
from las_sj.data.modalities import modalities_of
from las_sj.data.text import tokens_known

SAMPLE = "las_sample.safetensors"
TOKENS = 1024


class SampleError(ValueError):
    """There is no usable sample; the message says what to do."""


def save_sample(batches: Sequence[Batch], folder: Path, tokens: int = TOKENS) -> None:
    """Write the first batches of text, up to `tokens` tokens in all, or the first batch of anything else."""
    if not is_of_text(batches[0]) or "decoder_input_ids" in batches[0]:
        whole = {f"0.{name}": value.contiguous() for name, value in batches[0].items() if isinstance(value, Tensor)}
        save_file(whole, folder / SAMPLE)
        return
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


def load_sample(folder: Path, known: int | None = None, main: str = "input_ids") -> list[dict[str, Tensor]]:
    """Read what `save_sample` wrote.

    Args:
        folder: of a converted model.
        known: tokens that the model has embeddings of, as `tokens_known` returns; None: whatever there is.
        main: the input that the model cannot do without.

    Raises:
        SampleError: there is none, it cannot be read, or the model cannot be given it.
    """
    path = folder / SAMPLE
    remedy = "give a text with --text" if main == "input_ids" else "give others with --images, --audio or --pairs"
    if not path.exists():
        raise SampleError(f"{folder} has no {SAMPLE}: {remedy}")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise SampleError(f"{path} cannot be read ({error}): {remedy}") from None
    batches: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        batches.setdefault(int(number) if number.isdecimal() else -1, {})[name] = value
    if not batches or not all(_is_text(batch) if main == "input_ids" else main in batch for batch in batches.values()):
        raise SampleError(f"{path} holds no {'token ids' if main == 'input_ids' else main}: {remedy}")
    if known is not None and not all(_is_known(batch, known) for batch in batches.values()):
        raise SampleError(f"{path} has tokens that this model does not know: {remedy}")
    return [batch for _, batch in sorted(batches.items())]


def sample_of(model: PreTrainedModel, folder: Path) -> list[dict[str, Tensor]]:
    """The sample kept with a converted model, as far as the model can be given it.

    Args:
        model: the converted model.
        folder: that it was loaded from.

    Raises:
        SampleError: there is none, it cannot be read, or the model cannot be given it.
    """
    takes = modalities_of(type(model))
    known = tokens_known(model) if takes.text or takes.decoder else None
    return load_sample(folder, known, model.main_input_name)


def _is_text(batch: dict[str, Tensor]) -> bool:
    ids = batch.get("input_ids")
    if ids is None or ids.dtype != torch.int64 or ids.dim() != 2 or not ids.numel():
        return False
    mask = batch.get("attention_mask", torch.ones_like(ids))
    return mask.shape == ids.shape and bool(mask.any(1).all())


def _is_known(batch: dict[str, Tensor], known: int) -> bool:
    """Whether a model with embeddings of so many tokens knows those of a batch."""
    ids = [batch[name] for name in ("input_ids", "decoder_input_ids") if name in batch]
    return all(bool(((tokens >= 0) & (tokens < known)).all()) for tokens in ids)
