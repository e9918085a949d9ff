"""The command `las-sj optimize`: convert with the fewest spikes that a loss allows."""

import copy
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from transformers import PreTrainedModel

from las_sj.checkpoint.loading import class_to_convert, default_model, rate_codes_of, read_config
from las_sj.checkpoint.placement import places_of
from las_sj.checkpoint.processors import load_processors
from las_sj.checkpoint.weights import check_finite
from las_sj.commands.analog import analog_by_option
from las_sj.commands.command_line import Unfinished
from las_sj.commands.convert import load_original
from las_sj.commands.convert_data import Data, Given, prepare_data, read_data
from las_sj.commands.converted_folder import executions_gap, write_converted
from las_sj.commands.devices import check_device, check_limits
from las_sj.commands.media_options import check_takes
from las_sj.commands.optimize_data import task_data
from las_sj.commands.optimize_request import OptimizeRequest, parse_arguments
from las_sj.conversion.quality import compare
from las_sj.data.batches import Batch
from las_sj.data.modalities import modalities_of
from las_sj.data.noise import in_words
from las_sj.data.output_folder import CONVERSION, check_output
from las_sj.evaluation.digest import digest_of
from las_sj.models import running
from las_sj.optimisation.errors import OptimisationError
from las_sj.optimisation.optimise import optimize
from las_sj.optimisation.unfinished import OPTIMISATION, FinishedInFolder, finished_in
from las_sj.reports.conversion_report import conversion_report


def main(argument_list: list[str] | None = None) -> None:
    """Choose codes, check them, and write the output folder."""
    request = parse_arguments(argument_list)
    asked = request.convert
    check_device(asked.device)
    check_output(asked.output, asked.overwrite, CONVERSION, asked.inputs)
    if not request.restart:
        OPTIMISATION.check(request.unfinished, request.fingerprint)
    given = None if request.task is not None else read_data(asked)
    with places_of(asked.device_map, asked.max_memory) as places:
        check_limits(asked.max_memory)
        _optimize(request, given, places)


def _optimize(request: OptimizeRequest, given: Given | None, places: dict[str, Any]) -> None:
    asked = request.convert
    name = asked.model or str(default_model())
    model_class = class_to_convert(name, asked.gguf_file, asked.trust, rate_coded=True)
    if rate_codes_of(read_config(name, asked.gguf_file, asked.trust)) is not None:
        raise OptimisationError(f"{name} is a network of rate codes, whose neurons las-sj fas calibrate chooses")
    takes = modalities_of(model_class)
    check_takes(name, takes, asked.data_option, [] if given is None else given.examples)
    processors = load_processors(name, takes, asked.trust, asked.gguf_file)
    ann = load_original(asked, model_class, places)
    check_finite(ann, name)
    if request.task is None:
        data = prepare_data(asked, given, takes, ann, processors)
    else:
        data = task_data(request, ann, processors)
    if given is None and request.task is None:
        print(f"no data given: {in_words(takes)} instead; give some with {takes.option}", file=sys.stderr)
    calibration, check = _halves(data)
    start = time.perf_counter()
    snn = load_original(asked, model_class, places) if places else copy.deepcopy(ann)
    known = request.fingerprint | {"model": _digest(ann), "data": digest_of([calibration, check])}
    with finished_in(request.unfinished, known, request.restart) as kept, _kept(kept):
        with analog_by_option(request.config):
            found = optimize(
                snn,
                request.config,
                calibration,
                check,
                loss=request.goal.loss,
                energy=request.goal.energy,
                accounting=request.goal.accounting,
                binary=request.goal.binary,
                finished=kept,
            )
        optimised = time.perf_counter()
        with running(snn, "accumulated"):
            quality, monitor = compare(ann, snn, data.evaluation)
        gap = executions_gap(snn, data.evaluation[0])
        seconds = {"optimize": optimised - start, "compare": time.perf_counter() - optimised}
        source = asked.model or "the default model (GPT-2, Tiny Shakespeare)"
        settings = snn.config.quantization_config.settings
        report = conversion_report(snn, source, settings, _sources(data), quality, monitor, gap, seconds)
        report = replace(report, optimization=found.to_dict(), chosen=found.to_markdown())
        written = write_converted(asked, snn, processors, data.evaluation, report)
        kept.remove()
    print(f"{report.summary()}\n\n{found.summary()}\n\n{written}")


def _digest(model: PreTrainedModel) -> str:
    return digest_of(model.state_dict())


def _halves(data: Data) -> tuple[list[Batch], list[Batch]]:
    """Batches to calibrate on, and others to check on."""
    batches: list[Batch] = [*data.calibration]
    if len(batches) < 2:
        raise OptimisationError(
            "there is one batch to calibrate and check on: give more data (--calibration-tokens, --samples), or a "
            "smaller --batch-size"
        )
    half = (len(batches) + 1) // 2
    return batches[:half], batches[half:]


def _sources(data: Data) -> dict[str, str]:
    calibration = data.source["calibration"]
    return data.source | {
        "calibration": f"the first half of {calibration}",
        "check": f"the other half of {calibration}",
    }


@contextmanager
def _kept(finished: FinishedInFolder) -> Iterator[None]:
    """Errors that end an optimisation before its time say what there is to go on with."""
    try:
        yield
    except BaseException as error:
        if not finished.has_something or isinstance(error, OptimisationError):
            raise
        kept = f"what is finished is kept in {finished.folder}, the same command goes on"
        if isinstance(error, KeyboardInterrupt):
            raise Unfinished(kept) from None
        error.add_note(kept)
        raise
