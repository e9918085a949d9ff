"""Rows of different length in one batch, padded on either side."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from every_type.batches import Batch, arguments_of, random_ids
from every_type.building import Subject
from every_type.comparing import EXECUTIONS, LIMIT, difference, first_output
from every_type.weights import Model
from las_sj.models import running

_SIDES = ("left", "right")
_PADDING = 4  # places
_SAMPLES = 1000  # of a wave


@torch.no_grad()
def errors_with_padding(snn: Model, subject: Subject) -> str:
    """The largest error over real tokens of both executions by side."""
    answers = []
    for side in _SIDES:
        batch = _padded(subject.model, subject.inputs.make(1), side)
        if batch is None:
            return "takes no mask"
        errors = _errors(snn, subject.model, batch)
        worst = max(errors.values())
        answers.append(f"{side} {worst:.1e}" if worst < LIMIT else f"{side} DIFFERS {worst:.1e}")
    return ", ".join(answers)


def _errors(snn: Model, ann: Model, batch: Batch) -> dict[str, float]:
    expected = _of_real_tokens(ann, batch)
    found = {}
    for execution in EXECUTIONS:
        with running(snn, execution):
            found[execution] = difference(_of_real_tokens(snn, batch), expected)
    return {name: error if error == error else float("inf") for name, error in found.items()}


def _padded(model: Model, batch: Batch, side: str) -> Batch | None:
    """A batch whose second row is shorter than its first; None where the model has no mask to say so."""
    taken = arguments_of(model)
    if "input_ids" in batch and "attention_mask" in taken:
        return _longer(batch, "input_ids", "attention_mask", side)
    if "input_values" in batch and "attention_mask" in taken and batch["input_values"].dim() == 2:
        return _shorter_wave(batch, side)
    if "decoder_input_ids" in batch and "decoder_attention_mask" in taken:
        return _longer(batch, "decoder_input_ids", "decoder_attention_mask", side)
    return None


def _longer(batch: Batch, ids: str, mask: str, side: str) -> Batch:
    """Tokens are added to the first row, padding to the second; other numbers of each token are 0 there."""
    shape, ends = batch[ids].shape, _ends(side)
    padded = {name: F.pad(value, ends) for name, value in batch.items() if _is_of_tokens(value, shape)}
    padded[mask] = F.pad(torch.ones_like(batch[ids]), ends)
    padded[mask][0] = 1
    padded[ids][0, _places(side, _PADDING)] = random_ids(_PADDING, 7, rows=1)[0]
    return batch | padded


def _is_of_tokens(value: Any, shape: torch.Size) -> bool:
    return isinstance(value, Tensor) and value.shape == shape and not value.is_floating_point()


def _shorter_wave(batch: Batch, side: str) -> Batch:
    wave = batch["input_values"].clone()
    mask = torch.ones_like(wave, dtype=torch.long)
    mask[1, _places(side, _SAMPLES)] = 0
    return batch | {"input_values": wave * mask, "attention_mask": mask}


def _ends(side: str) -> tuple[int, int]:
    return (_PADDING, 0) if side == "left" else (0, _PADDING)


def _places(side: str, count: int) -> slice:
    return slice(None, count) if side == "left" else slice(-count, None)


def _of_real_tokens(model: Model, batch: Batch) -> Tensor:
    """A model's output where it is of tokens that are no padding."""
    output = first_output(model(**batch))
    mask = batch.get("decoder_attention_mask", batch.get("attention_mask"))
    if "decoder_input_ids" in batch and "decoder_attention_mask" not in batch:
        return output  # of the decoder, which has no padding
    assert mask is not None
    if hasattr(model, "_get_feature_vector_attention_mask") and mask.shape[1] != output.shape[1]:
        mask = model._get_feature_vector_attention_mask(output.shape[1], mask)
    return output[mask.bool()] if output.shape[:2] == mask.shape else output
