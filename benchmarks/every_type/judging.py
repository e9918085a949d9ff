"""What becomes of one entry: built, run as an ANN, converted, measured, audited, generating, saved and loaded."""

import copy
import inspect
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin

import las_sj
from every_type.building import NotRun, Subject, build, first_output
from every_type.mappings import Entry
from every_type.weights import Model
from las_sj.analysis import audit
from las_sj.models import running

Row = dict[str, Any]  # of the journal; see docs/architectures.md for its columns

LIMIT = 1e-3  # of ‖SNN − ANN‖/‖ANN‖
EXECUTIONS = ("accumulated", "temporal")
CONVERTED, NOT_RUN = "converted", "not run"
GENERATION, SAVING = "generation", "saving"
_NEW_TOKENS = 4
_LONGEST = 300  # characters of a reason


def judge(entry: Entry, stages: Collection[str] = ()) -> Iterator[Row]:
    """What is found, piece by piece, so that what a time limit cuts off leaves the rest.

    A type counts as converted only if the structure check within `las_sj.convert` passed and both errors are below
    `LIMIT`.

    Args:
        entry: of a mapping.
        stages: `GENERATION` and `SAVING`, where they are asked for.
    """
    try:
        subject = build(entry)
    except NotRun as error:
        yield {"status": NOT_RUN, "why": str(error)}
        return
    yield {"inputs": subject.inputs.kind, "parameters": subject.parameters, "status": "over time", "why": "conversion"}
    try:
        snn = las_sj.convert(copy.deepcopy(subject.model), None, [subject.inputs.make(seed) for seed in (1, 2)])
    except Exception as error:  # of any kind: the row says which
        yield {"status": _status(error), "why": _reason(error)}
        return
    errors = errors_of(snn, subject)
    yield errors
    if errors["status"] == CONVERTED:
        yield from _further(snn, subject, stages)


def _status(error: Exception) -> str:
    if isinstance(error, las_sj.UnsupportedModelError):
        return "refused"
    return "structure" if isinstance(error, las_sj.StructureError) else "crashed"


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:_LONGEST]
    if _status(error) != "crashed":
        return text
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {text} ({Path(place.filename).name}, line {place.lineno})"


@torch.no_grad()
def errors_of(snn: Model, subject: Subject) -> Row:
    """How far both executions are from the ANN, and whether the type counts as converted.

    Args:
        snn: the converted model.
        subject: the ANN, with inputs.
    """
    expected, found = first_output(subject.model(**subject.inputs.make(1))), Row()
    for execution in EXECUTIONS:
        try:
            with running(snn, execution):
                output = first_output(snn(**subject.inputs.make(1)))
        except Exception as error:
            return {"status": "crashed", "why": f"{execution}: {_reason(error)}"}
        if output.shape != expected.shape:
            return {"status": "wrong", "why": f"{execution}: {list(output.shape)}, ANN {list(expected.shape)}"}
        found[execution] = _difference(output, expected)
    converts = all(found[execution] < LIMIT for execution in EXECUTIONS)  # NaN is not below
    why = "" if converts else "error " + ", ".join(f"{execution} {found[execution]:.1e}" for execution in EXECUTIONS)
    return found | {"status": CONVERTED if converts else "inaccurate", "why": why}


def _difference(output: Tensor, expected: Tensor) -> float:
    return float((output - expected).norm() / expected.norm().clamp(min=1e-12))


def _further(snn: Model, subject: Subject, stages: Collection[str]) -> Iterator[Row]:
    """The audit, and what else is asked for; what one of them raises is its answer."""
    answers: dict[str, Callable[[Model, Subject], str]] = {"audit": _audit}
    answers |= {name: answer for name, answer in ((GENERATION, _generation), (SAVING, _saving)) if name in stages}
    for name, answer in answers.items():
        yield {name: "over time"}
        try:
            yield {name: answer(snn, subject)}
        except Exception as error:
            yield {name: _reason(error)}


def _audit(snn: Model, subject: Subject) -> str:
    report = audit(snn, subject.inputs.make(1))
    if report.fully_spike_driven:
        return "fully spike-driven"
    return (
        ", ".join(
            f"{row.operator} in {row.module or 'the model'}: {row.count}"
            for row in report.by_operator()
            if row.kind == "product of analog operands"
        )
        or "no neurons fired"
    )


@torch.no_grad()
def _generation(snn: Model, subject: Subject) -> str:
    """Whether tokens of the ANN and of both executions are the same, with the cache that generation uses."""
    if not subject.model.can_generate():
        return ""
    expected = _tokens(subject.model, subject)
    for execution in EXECUTIONS:
        with running(snn, execution):
            if not torch.equal(_tokens(snn, subject), expected):
                return f"other tokens, {execution}"
    return "same tokens"


def _tokens(model: Model, subject: Subject) -> Tensor:
    batch = {name: value for name, value in subject.inputs.make(1).items() if name != "decoder_input_ids"}
    options: Row = {"max_new_tokens": _NEW_TOKENS, "do_sample": False, "use_cache": True}
    if _takes_special_tokens(model):
        options |= {"pad_token_id": 0, "eos_token_id": None}
    return model.generate(**batch, **options)


def _takes_special_tokens(model: Model) -> bool:
    """Whether `generate` does not give them itself to a decoder inside of the model."""
    own = inspect.unwrap(type(model).generate)
    return own is inspect.unwrap(GenerationMixin.generate) or "pad_token_id=" not in inspect.getsource(own)


@torch.no_grad()
def _saving(snn: Model, subject: Subject) -> str:
    with tempfile.TemporaryDirectory() as folder:
        snn.save_pretrained(folder)
        try:
            loaded = type(subject.model).from_pretrained(folder)
        except Exception:
            if not _is_loaded_again(subject):
                return "nor is the ANN loaded"
            raise
    for execution in EXECUTIONS:
        outputs = []
        for model in (snn, loaded):
            with running(model, execution):
                outputs.append(first_output(model(**subject.inputs.make(1))))
        if not torch.equal(*outputs):
            return f"DIFFERS, {execution}"
    return "bit-identical"


def _is_loaded_again(subject: Subject) -> bool:
    """Whether transformers saves and loads the ANN."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            subject.model.save_pretrained(folder)
            _, found = type(subject.model).from_pretrained(folder, output_loading_info=True)
        except Exception:  # of any kind: transformers cannot
            return False
    return not found["missing_keys"]
