"""A model that generates goes on from what its cache holds, often by other operations than those that filled it.

They are found, checked and calibrated like those of a plain call, by continuing a batch for a few tokens.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from las_sj.conversion.in_single_precision import in_single_precision
from las_sj.conversion.structure import TOLERANCE, StructureError, bypassed_coding
from las_sj.data.batches import is_large
from las_sj.models import execution_of, running
from las_sj.models.few_steps import few_steps
from las_sj.models.inputs import TARGETS

TOKENS = 3  # the first comes of the prompt, the others of the cache
CALIBRATION_TOKENS = 8
_NOT_GIVEN = (*TARGETS, "use_cache", "output_hidden_states", "output_attentions", "return_dict")


class Continuation(NamedTuple):
    """What a model goes on with, most probable token by most probable token.

    Attributes:
        tokens: int64 [B, S].
        logits: of each new token, [B, vocabulary].
    """

    tokens: Tensor
    logits: tuple[Tensor, ...]


@torch.no_grad()
def continue_batch(
    model: nn.Module, batch: Mapping[str, Any], tokens: int = TOKENS, output: Any = None
) -> Continuation:
    """Continue a batch, with the model's own cache.

    Args:
        model: one that generates.
        batch: keyword arguments of a call; padding is taken for tokens.
        tokens: how many new ones.
        output: of a call with the batch, whose encoder need not run again; None: all runs.
    """
    given = {name: value for name, value in batch.items() if name not in _NOT_GIVEN}
    if isinstance(given.get("attention_mask"), Tensor):
        given["attention_mask"] = torch.ones_like(given["attention_mask"])
    encoded = _encoded(output)
    try:
        return _generated(model, given | encoded, tokens)
    except AttributeError:  # some decoders ask for more of an encoder than what it has made
        if not encoded:
            raise
        return _generated(model, given, tokens)


def _generated(model: nn.Module, given: dict[str, Any], tokens: int) -> Continuation:
    with in_single_precision(model):
        output = GenerationMixin.generate(
            model,  # type: ignore[arg-type]
            **given,
            do_sample=False,
            num_beams=1,
            use_cache=True,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            return_dict_in_generate=True,
            output_logits=True,
        )
    return Continuation(output.sequences.cpu(), tuple(logits.float().cpu() for logits in output.logits))  # type: ignore


def _encoded(output: Any) -> dict[str, Any]:
    """What the encoder of a model, if it has one, gave in a call."""
    state = getattr(output, "encoder_last_hidden_state", None)
    return {} if state is None else {"encoder_outputs": BaseModelOutput(last_hidden_state=state)}


def continuation_of(model: nn.Module, batch: Mapping[str, Any]) -> Continuation | None:
    """What a model that is not converted yet goes on with; None where it does not generate from such a batch."""
    if not isinstance(model, PreTrainedModel) or not model.can_generate():
        return None
    try:
        return continue_batch(model, batch)
    except Exception:  # whatever keeps the ANN from it keeps the spiking network from it too
        return None


def find_operations(model: nn.Module, batch: Mapping[str, Any], count: Callable[[], int], output: Any) -> None:
    """Have the operations of a continuation found, in both executions.

    Args:
        model: one whose operations are being found.
        batch: what is continued.
        count: tells how many populations there are.
        output: of a temporal call with the batch.
    """
    before, operated = count(), execution_of(model).operated
    assert operated is not None
    continue_batch(model, batch)
    with running(model, "temporal"):  # type: ignore[arg-type]
        continue_batch(model, batch, output=output)
    operated.continues_apart = count() > before


def check_continuation(model: nn.Module, batch: Mapping[str, Any], expected: Continuation) -> None:
    """Compare what a converted model goes on with, coding bypassed, with the ANN, in both executions.

    Raises:
        StructureError: they differ.
    """
    for execution in ("accumulated", "temporal"):
        with bypassed_coding(model), few_steps(is_large(batch)), running(model, execution):
            found = continue_batch(model, batch)
        for number, (logits, reference) in enumerate(zip(found.logits, expected.logits, strict=False)):
            difference = float((logits - reference).norm() / reference.norm().clamp(min=1e-12))
            if not difference <= TOLERANCE:
                raise StructureError(
                    f"generated token {number + 1} ({execution}) differs from the ANN: {difference:.1e} of its logits"
                )
            if not torch.equal(logits.argmax(-1), reference.argmax(-1)):
                break  # a tie: from here on the texts are different ones


def calibrate_continuation(model: nn.Module, batch: Mapping[str, Any], output: Any) -> None:
    """Show the operations that only a continuation has what they receive, where there are some.

    Args:
        model: that is being calibrated.
        batch: what is continued.
        output: of a call with it.
    """
    operated = execution_of(model).operated
    if operated is not None and operated.continues_apart:
        continue_batch(model, batch, CALIBRATION_TOKENS, output)
