"""Batches of random tokens, images and sounds: dicts of a model's keyword arguments."""

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from every_type.weights import Model

Batch = dict[str, Any]

ROWS, TOKENS, ANSWER = 2, 12, 8  # sequences, tokens of a text, tokens that a decoder is given


@dataclass(frozen=True)
class Inputs:
    """One way to call a model.

    Args:
        kind: what the model is given, as the table says: "text", "images and text".
        make: makes a batch from a seed.
        recount: the same with another number of tokens for each image or sound, where there are such tokens.
    """

    kind: str
    make: Callable[[int], Batch]
    recount: "Callable[[int], Inputs] | None" = None


def arguments_of(model: Model) -> Collection[str]:
    """Names of the arguments of a model's forward method."""
    return inspect.signature(model.forward).parameters.keys()


def random_ids(length: int, seed: int, rows: int = ROWS) -> Tensor:
    """Tokens that are no special ones, [rows, length]."""
    return torch.randint(3, 60, (rows, length), generator=torch.Generator().manual_seed(seed))


def noise(*shape: int, seed: int) -> Tensor:
    """Normally distributed numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ones(*shape: int) -> Tensor:
    """A mask without padding."""
    return torch.ones(*shape, dtype=torch.long)


def decoder_text(model: Model, seed: int) -> Batch:
    """What a decoder is given, where there is one beside the encoder."""
    return {"decoder_input_ids": random_ids(ANSWER, seed + 5)} if "decoder_input_ids" in arguments_of(model) else {}


def around(model: Model, token: int | None, count: int, seed: int) -> Batch:
    """A text with `count` places for an image or a sound, and all that tells where they are.

    Args:
        model: whose arguments tell what is asked for.
        token: that marks a place; None: a plain text.
        count: of places in a sequence.
        seed: of the text.
    """
    ids = random_ids(TOKENS + count, seed)
    if token is not None:
        ids[:, 2 : 2 + count] = token
    batch: Batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if token is not None:
        marks = (ids == token).int()
        batch |= {name: marks for name in ("mm_token_type_ids", "token_type_ids") if name in arguments_of(model)}
    return batch | decoder_text(model, seed)
