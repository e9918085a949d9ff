"""What becomes of one entry: built, run as an ANN, converted, measured, audited, and what else is asked for."""

import copy
import traceback
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch

import las_sj
from every_type.building import NotRun, Subject, build
from every_type.comparing import EXECUTIONS, LIMIT, difference, first_output
from every_type.mappings import Entry
from every_type.stages import STAGES, Stage
from every_type.weights import Model
from las_sj.analysis import audit
from las_sj.models import running

Row = dict[str, Any]  # of the journal; see docs/architectures.md for its columns

CONVERTED, NOT_RUN = "converted", "not run"
_LONGEST = 300  # characters of a reason


def judge(entry: Entry, stages: Collection[str] = ()) -> Iterator[Row]:
    """What is found, piece by piece, so that what a time limit cuts off leaves the rest.

    A type counts as converted only if the structure check within `las_sj.convert` passed and both errors are below
    `LIMIT`.

    Args:
        entry: of a mapping.
        stages: of `STAGES`, those that are asked for.
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
        found[execution] = difference(output, expected)
    converts = all(found[execution] < LIMIT for execution in EXECUTIONS)  # NaN is not below
    why = "" if converts else "error " + ", ".join(f"{execution} {found[execution]:.1e}" for execution in EXECUTIONS)
    return found | {"status": CONVERTED if converts else "inaccurate", "why": why}


def _further(snn: Model, subject: Subject, stages: Collection[str]) -> Iterator[Row]:
    """The audit, and what else is asked for; what one of them raises is its answer."""
    answers: dict[str, Stage] = {"audit": _audit} | {name: STAGES[name] for name in STAGES if name in stages}
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
