"""Language modelling, causal or masked: windows of a text, and the loss on them."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    DataCollatorForLanguageModeling,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from las_sj.checkpoint.placement import input_device
from las_sj.data.batches import Batch, to_device
from las_sj.data.text import TextError, check_ids
from las_sj.training.errors import TrainingError
from las_sj.training.material import Material, without_labels
from las_sj.training.rows import Row, TrainingRows

OBJECTIVES: dict[str, Any] = {
    "masked": AutoModelForMaskedLM,
    "causal": AutoModelForCausalLM,
}  # encoders have classes of both
IGNORED = -100  # as torch's cross entropy has it


def objective_of(config: PretrainedConfig, name: str, asked: str | None = None) -> str:
    """What a model of language is trained for: "masked" of encoders, "causal" of decoders.

    Args:
        config: of the model.
        name: of the model, for messages.
        asked: what is to be done; None leaves it to the model.

    Raises:
        TrainingError: the model is none of both, or not of the kind that is asked for.
    """
    kinds = [objective for objective in OBJECTIVES if class_for(config, objective) is not None]
    if not kinds or config.is_encoder_decoder:
        raise TrainingError(f"{name} is a {config.model_type}, neither a decoder nor an encoder of text: give one")
    found = kinds[0]
    if asked not in (None, found):
        kind = "an encoder" if found == "masked" else "a decoder"
        raise TrainingError(
            f"{name} is {kind} ({config.model_type}), which has no {asked} language modelling: --objective {found}, "
            "or leave it out"
        )
    return found


def class_for(config: PretrainedConfig, objective: str) -> Any:
    """The class of transformers that is trained for an objective; None where there is none of this type."""
    found = OBJECTIVES[objective]._model_mapping.get(type(config), None)
    return found[0] if isinstance(found, tuple | list) else found


def windows_of(tokenizer: PreTrainedTokenizerBase, text: str, window: int, objective: str) -> list[Row]:
    """A text in windows of tokens, `input_ids` [S] each, as long as there is a whole one.

    Decoders see the text as it is, encoders its lines with special tokens, which `special_tokens_mask` [S] marks.

    Raises:
        TextError: the text is too short for one window.
    """
    if objective == "causal":
        encoded = {"input_ids": tokenizer(text, verbose=False)["input_ids"]}
    else:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        of_lines = tokenizer(lines, return_special_tokens_mask=True, verbose=False)
        names = ("input_ids", "special_tokens_mask")
        encoded = {name: [value for line in of_lines[name] for value in line] for name in names}
    found = len(encoded["input_ids"])
    if found < window:
        raise TextError(f"the text gives {found} tokens, too few for a --window of {window}: give more text")
    cut = {name: torch.tensor(values[: found // window * window]) for name, values in encoded.items()}
    split = {name: values.view(-1, window) for name, values in cut.items()}
    return [{name: values[number] for name, values in split.items()} for number in range(found // window)]


class Masking:
    """Hides tokens of a window for an encoder to find: most become the mask, some another token, some stay.

    Args:
        tokenizer: with a mask token.
        rate: share of the tokens.

    Raises:
        TrainingError: the tokenizer has no mask.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, rate: float) -> None:
        if tokenizer.mask_token is None:
            raise TrainingError("the tokenizer has no mask token, which an encoder is trained with: give the right one")
        self._collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=rate)

    def __call__(self, row: Row, generator: torch.Generator) -> Row:
        ids, special = row["input_ids"][None].clone(), row["special_tokens_mask"][None].bool()
        collator = self._collator
        collator.generator = generator
        hidden, labels = collator.torch_mask_tokens(ids.clone(), special_tokens_mask=special)
        ordinary = (~special[0]).nonzero().flatten()
        if len(ordinary) and bool((labels == IGNORED).all()):  # a loss over no token would be NaN
            chosen = ordinary[torch.randint(len(ordinary), (1,), generator=generator)]
            labels[0, chosen] = ids[0, chosen]
            hidden[0, chosen] = collator.tokenizer.mask_token_id
        return {"input_ids": hidden[0], "labels": labels[0]}


def with_labels(row: Row, generator: torch.Generator) -> Row:
    """A window for a decoder, which is its own label."""
    return {"input_ids": row["input_ids"], "labels": row["input_ids"]}


def stacked(rows: Sequence[Row]) -> Batch:
    """Windows as a batch, [B, S] each."""
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def language_material(
    tokenizer: PreTrainedTokenizerBase,
    texts: tuple[str, str],
    objective: str,
    *,
    window: int,
    known: int,
    mask_rate: float,
    held_out_tokens: int,
    batch_size: int,
    facts: dict[str, Any],
) -> Material:
    """Language modelling on a text.

    Args:
        tokenizer: of the model.
        texts: to train on, and held out.
        objective: "causal" or "masked".
        window: tokens of a row.
        known: tokens that the model has embeddings of.
        mask_rate: share of tokens that are hidden from an encoder.
        held_out_tokens: how many are measured.
        batch_size: windows of a call that is measured.
        facts: what the report says.

    Raises:
        TextError: a text is too short, or the tokenizer is not that of the model.
        TrainingError: the tokenizer has no mask.
    """
    change = with_labels if objective == "causal" else Masking(tokenizer, mask_rate)
    rows, held_out = (windows_of(tokenizer, text, window, objective) for text in texts)
    for row in (*rows, *held_out):
        check_ids(row["input_ids"], known)
    held_out = held_out[: max(1, held_out_tokens // window)]
    measured = TrainingRows(held_out, len(held_out), 0, change)  # hidden are the same tokens each time
    parts = range(0, len(held_out), batch_size)
    batches = [stacked([measured[n] for n in range(start, min(start + batch_size, len(held_out)))]) for start in parts]
    counts = {"windows": len(rows), "held_out_windows": len(held_out), "window": window, "objective": objective}
    shown = [without_labels(batch) for batch in batches]
    return Material(rows, stacked, _Loss(batches, objective), change, facts | counts, held_out=shown)


class _Loss:
    """The loss of a model of language, in nats per token, and its perplexity.

    Args:
        batches: with labels.
        objective: "causal" or "masked".
    """

    def __init__(self, batches: Sequence[Batch], objective: str) -> None:
        self.batches = batches
        self.shift = 1 if objective == "causal" else 0

    def __call__(self, model: PreTrainedModel) -> dict[str, float]:
        total, count = 0.0, 0
        for batch in tqdm(self.batches, desc="measuring", unit="batch", leave=False):
            given = to_device(batch, input_device(model))
            logits: Tensor = model(**without_labels(given)).logits  # [B, S, V]
            labels = given["labels"][:, self.shift :].flatten()
            predicted = logits[:, : logits.shape[1] - self.shift].flatten(0, 1).float()
            total += float(cross_entropy(predicted, labels, ignore_index=IGNORED, reduction="sum"))
            count += int((labels != IGNORED).sum())
        loss = total / count
        if not math.isfinite(loss):
            raise TrainingError("the loss on held-out text is infinite or NaN: check the weights")
        return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
