"""Greedy tokens of the ANN and of both executions, with and without a cache, in double precision."""

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin

import las_sj
from every_type.batches import Batch
from every_type.building import Subject
from every_type.comparing import EXECUTIONS, with_floats_of
from every_type.weights import Model
from las_sj.models import running
from las_sj.models.operations.attention import keep_order_of_tokens

_NEW_TOKENS = 4
_CACHES = {True: "with cache", False: "without cache"}


@torch.no_grad()
def same_tokens(snn: Model, subject: Subject) -> str:
    """Whether all tokens are the same; with the ways in which the ANN itself does not generate.

    The ANN is converted again in fp64, so that a tie is no matter of rounding; in fp32 where it knows no other.
    """
    if not subject.model.can_generate():
        return "does not generate"
    ann, dtype, default = in_double_precision(subject)
    with _default_dtype(default):
        return _answer(snn, subject, ann, dtype)


def _answer(snn: Model, subject: Subject, ann: Model, dtype: torch.dtype) -> str:
    batch = with_floats_of(_prompt(subject), dtype)
    expected = {use_cache: _tokens_or_error(ann, batch, use_cache) for use_cache in _CACHES}
    without = [
        f"the ANN has none {_CACHES[use_cache]} ({type(found).__name__})"
        for use_cache, found in expected.items()
        if isinstance(found, Exception)
    ]
    if len(without) == len(_CACHES):
        return ", ".join(without)
    if dtype == torch.float64:
        batches = [with_floats_of(subject.inputs.make(seed), dtype) for seed in (1, 2)]
        snn = las_sj.convert(ann, None, batches)
    other = _other_tokens(snn, batch, expected)
    same = "same tokens" if dtype == torch.float64 else "same tokens in fp32"
    return other or ", ".join([same, *without])


def _other_tokens(snn: Model, batch: Batch, expected: dict[bool, Tensor | Exception]) -> str:
    """Where the tokens of a network are others than expected, or nothing."""
    for use_cache, tokens in expected.items():
        for execution in EXECUTIONS if isinstance(tokens, Tensor) else ():
            with running(snn, execution):
                if not torch.equal(_tokens(snn, batch, use_cache), tokens):
                    return f"other tokens, {execution}, {_CACHES[use_cache]}"
    return ""


def in_double_precision(subject: Subject) -> tuple[Model, torch.dtype, torch.dtype]:
    """The ANN in fp64 if it runs so, else as it is; its type, and the default one with which it runs.

    Some make constants of the default type, into which the least number of fp64 does not go.
    """
    ann = copy.deepcopy(subject.model).double()
    keep_order_of_tokens(ann)  # grouped experts know no fp64
    for default in (torch.float32, torch.float64):
        with _default_dtype(default), suppress(RuntimeError):
            ann(**with_floats_of(subject.inputs.make(1), torch.float64))
            return ann, torch.float64, default
    return subject.model, torch.float32, torch.float32


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _prompt(subject: Subject) -> Batch:
    return {name: value for name, value in subject.inputs.make(1).items() if name != "decoder_input_ids"}


def _tokens_or_error(model: Model, batch: Batch, use_cache: bool) -> Tensor | Exception:
    try:
        return _tokens(model, batch, use_cache)
    except Exception as error:  # whatever keeps the ANN from it
        return error


def _tokens(model: Model, batch: Batch, use_cache: bool) -> Tensor:
    options: dict[str, Any] = {"max_new_tokens": _NEW_TOKENS, "do_sample": False, "use_cache": use_cache}
    if _takes_special_tokens(model):
        options |= {"pad_token_id": 0, "eos_token_id": None}
    return model.generate(**batch, **options)


def _takes_special_tokens(model: Model) -> bool:
    """Whether `generate` does not give them itself to a decoder inside of the model."""
    own = inspect.unwrap(type(model).generate)
    return own is inspect.unwrap(GenerationMixin.generate) or "pad_token_id=" not in inspect.getsource(own)
