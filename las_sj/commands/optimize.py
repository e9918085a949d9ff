"""The command `las-sj optimize`: convert with the fewest spikes that a loss allows."""

import copy
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from transformers import PreTrainedModel

from las_sj.checkpoint.loading import class_to_convert, rate_codes_of, read_config
from las_sj.checkpoint.placement import places_of
from las_sj.commands.analog import analog_by_option
from las_sj.commands.command_line import Unfinished
from las_sj.commands.convert_data import Data, Given, prepare_data, read_data
from las_sj.commands.converted_folder import executions_gap, write_converted
from las_sj.commands.devices import check_device, check_limits
from las_sj.commands.optimize_data import task_data
from las_sj.commands.optimize_request import OptimizeRequest, parse_arguments
from las_sj.commands.source import Source, called, load_original, load_source, name_of
from las_sj.conversion.quality import compare
from las_sj.data.batches import Batch
from las_sj.data.noise import in_words
from las_sj.data.output_folder import CONVERSION, check_output
from las_sj.evaluation.digest import digest_of
from las_sj.models import running
from las_sj.optimisation.errors import OptimisationError, OutOfReachError
from las_sj.optimisation.optimise import optimize
from las_sj.optimisation.result import Optimisation
from las_sj.optimisation.unfinished import OPTIMISATION, FinishedInFolder, finished_in
from las_sj.reports.conversion_report import ConversionReport, conversion_report

MUCH = 0.1  # of a loss: may be meant in per cent


def main(argument_list: list[str] | None = None) -> None:
    """Choose codes, check them, and write the output folder."""
    request = parse_arguments(argument_list)
    asked, loss = request.convert, request.goal.loss
    if loss is not None and loss >= MUCH:
        print(f"warning: a loss of {100 * loss:g} % is allowed; 0.3 % is 0.3% or 0.003", file=sys.stderr)
    check_device(asked.device)
    check_output(asked.output, asked.overwrite, CONVERSION, asked.inputs)
    if not request.restart:
        OPTIMISATION.check(request.unfinished, request.fingerprint)
    given = None if request.task is not None else read_data(asked)
    with places_of(asked.device_map, asked.max_memory) as places:
        check_limits(asked.max_memory)
        _optimize(request, given, places)


def _optimize(request: OptimizeRequest, given: Given | None, places: dict[str, Any]) -> None:
    asked, name = request.convert, name_of(request.convert)
    model_class = class_to_convert(name, asked.gguf_file, asked.trust, rate_coded=True)
    if rate_codes_of(read_config(name, asked.gguf_file, asked.trust)) is not None:
        raise OptimisationError(f"{name} is a network of rate codes, whose neurons las-sj fas calibrate chooses")
    loaded = load_source(asked, model_class, given, places)
    data = _data(request, given, loaded)
    calibration, check = _halves(data)
    snn = load_original(asked, model_class, places) if places else copy.deepcopy(loaded.ann)
    known = {"model": digest_of(loaded.ann.state_dict()), "data": digest_of([calibration, check])}
    with finished_in(request.unfinished, request.fingerprint | known, request.restart) as kept, _kept(kept):
        start = time.perf_counter()
        with analog_by_option(request.config):
            found = optimize(snn, request.config, calibration, check, **asdict(request.goal), finished=kept)
        report = _reported(request, loaded.ann, snn, data, found, time.perf_counter() - start)
        written = write_converted(asked, snn, loaded.processors, data.evaluation, report)
        kept.remove()
    print(f"{report.summary()}\n\n{found.summary()}\n\n{written}")


def _data(request: OptimizeRequest, given: Given | None, loaded: Source) -> Data:
    if request.task is not None:
        return task_data(request, loaded.ann, loaded.processors)
    if given is None:
        takes = loaded.takes
        print(f"no data given: {in_words(takes)} instead; give some with {takes.option}", file=sys.stderr)
    return prepare_data(request.convert, given, loaded.takes, loaded.ann, loaded.processors)


def _reported(
    request: OptimizeRequest,
    ann: PreTrainedModel,
    snn: PreTrainedModel,
    data: Data,
    found: Optimisation,
    seconds: float,
) -> ConversionReport:
    """Compare both models on the evaluation data, which nothing was chosen by."""
    start = time.perf_counter()
    with running(snn, "accumulated"):
        quality, monitor = compare(ann, snn, data.evaluation)
    gap = executions_gap(snn, data.evaluation[0])
    taken = {"optimize": seconds, "compare": time.perf_counter() - start}
    settings = snn.config.quantization_config.settings
    name, sources = called(request.convert), _sources(data)
    report = conversion_report(snn, name, settings, sources, quality, monitor, gap, taken)
    return replace(report, optimization=found.to_dict(), chosen=found.to_markdown())


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
        out_of_reach = isinstance(error, OutOfReachError)
        if not finished.has_something or (isinstance(error, OptimisationError) and not out_of_reach):
            raise
        if out_of_reach:
            error.add_note(f"statistics are kept in {finished.folder}, another goal begins with them")
            raise
        kept = f"what is finished is kept in {finished.folder}, the same command goes on"
        if isinstance(error, KeyboardInterrupt):
            raise Unfinished(kept) from None
        error.add_note(kept)
        raise
