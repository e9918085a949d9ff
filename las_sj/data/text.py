"""Batches from plain text, as a model takes it: windows of tokens for language models, padded lines for encoders."""

from pathlib import Path

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from las_sj.data.paths import check_regular

LINE_BATCH = 8
LINE_TOKENS = 128

TextBatch = dict[str, Tensor]


class TextError(ValueError):
    """A text file cannot be used; the message says why."""


def read_text(path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        TextError: it does not exist, is no regular file, is not text, or is empty.
    """
    try:
        check_regular(path)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TextError(f"cannot read text from {path} ({why(error)}): give a file of UTF-8 text") from None
    if not text.strip():
        raise TextError(f"{path} is empty: give a file with text")
    return text


def why(error: OSError | UnicodeDecodeError) -> str:
    """Why a file could not be read as text, in a few words."""
    return f"byte {error.start} is no UTF-8" if isinstance(error, UnicodeDecodeError) else str(error.strerror)


def tokens_known(model: PreTrainedModel) -> int:
    """How many different tokens a model has embeddings of."""
    known: int = model.config.get_text_config().vocab_size
    return known


def check_ids(ids: Tensor, known: int) -> None:
    """Make sure that a model knows the tokens that it is to be given.

    Args:
        ids: of the tokens.
        known: as `tokens_known` returns.

    Raises:
        TextError: it does not, as where the tokenizer is that of another model.
    """
    wrong = ids[(ids < 0) | (ids >= known)]
    if len(wrong):
        raise TextError(
            f"the tokenizer gives token {int(wrong[0])}, but the model knows {known} tokens: they do not match, "
            "give the model its own"
        )


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, split at line feeds alone: JSON strings may hold other line separators.

    Raises:
        OSError, UnicodeDecodeError: it cannot be read, or is not text.
    """
    check_regular(path)
    return path.read_text(encoding="utf-8").rstrip("\n").split("\n")


def split_held_out(text: str, share: float = 0.2) -> tuple[str, str]:
    """The text without, and with only, its last part, cut at a space."""
    cut = text.rfind(" ", 0, int(len(text) * (1 - share))) + 1
    return text[:cut], text[cut:]


def is_language_model(model: PreTrainedModel) -> bool:
    """Whether the model predicts the next token."""
    return model.can_generate() and not model.config.is_encoder_decoder


def longest_sequence(config: PretrainedConfig) -> int | None:
    """Tokens of the longest sequence that a model takes; None where its configuration sets no limit.

    A model of images and text keeps this with its language model. GPT-2 and others, which call it `n_positions`, answer
    to the common name too. XLNet says −1.
    """
    longest = getattr(config.get_text_config(), "max_position_embeddings", None)
    return longest if isinstance(longest, int) and longest > 0 else None


def text_batches(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    tokens: int,
    window: int,
    batch_size: int,
) -> list[TextBatch]:
    """The beginning of a text, as a model takes it: windows for a language model, padded lines for any other.

    Args:
        model: decides which.
        tokenizer: of the model.
        text: to cut up.
        tokens: how many are taken.
        window: tokens of a sequence, cut to the longest that the model takes.
        batch_size: windows of a batch; lines come `LINE_BATCH` at a time.

    Raises:
        TextError: the text is too short, or the tokenizer is not that of the model.
    """
    window = min(window, longest_sequence(model.config) or window)
    if is_language_model(model):
        batches = token_windows(tokenizer, text, tokens, window, batch_size)
    else:
        batches = padded_lines(tokenizer, text, tokens, window)
    for batch in batches:
        check_ids(batch["input_ids"], tokens_known(model))
    return batches


def token_windows(
    tokenizer: PreTrainedTokenizerBase, text: str, tokens: int, window: int, batch_size: int
) -> list[TextBatch]:
    """The first `tokens` tokens of `text`, in windows of `window`: input_ids [B, S] each.

    Raises:
        TextError: the text gives fewer than two tokens.
    """
    ids = tokenizer(text[: tokens * 32], return_tensors="pt", verbose=False)["input_ids"][0, :tokens]
    if len(ids) < 2:
        raise TextError("the text gives fewer than two tokens: give more text")
    whole = ids[: len(ids) // window * window].view(-1, window)
    batches = [{"input_ids": part} for part in whole.split(batch_size) if len(part)]
    rest = ids[len(whole) * window :]
    return batches if len(rest) < 2 else [*batches, {"input_ids": rest[None]}]


def padded_lines(tokenizer: PreTrainedTokenizerBase, text: str, tokens: int, longest: int) -> list[TextBatch]:
    """Lines of `text` up to `tokens` tokens in all, in padded batches: input_ids and attention_mask [B, S].

    Raises:
        TextError: the text is blank.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise TextError("the text has no line with a token: give more text")
    batches: list[TextBatch] = []
    total = 0
    for start in range(0, len(lines), LINE_BATCH):
        if total >= tokens:
            break
        batch = tokenizer(
            lines[start : start + LINE_BATCH],
            padding=True,
            truncation=True,
            max_length=min(longest, LINE_TOKENS),
            return_tensors="pt",
        )
        total += int(batch["attention_mask"].sum())
        batches.append({key: value for key, value in batch.items() if isinstance(value, torch.Tensor)})
    return batches
