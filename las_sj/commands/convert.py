"""The command `las-sj convert`."""

import copy
import sys
import time
from typing import Any

from las_sj.checkpoint.loading import class_to_convert, rate_codes_of, read_config
from las_sj.checkpoint.placement import places_of
from las_sj.commands.analog import analog_by_option
from las_sj.commands.convert_data import Given, prepare_data, read_data
from las_sj.commands.convert_request import ConvertRequest, parse_arguments
from las_sj.commands.converted_folder import executions_gap, write_converted
from las_sj.commands.devices import check_device, check_limits
from las_sj.commands.source import called, load_original, load_source, name_of
from las_sj.conversion.convert import convert
from las_sj.conversion.quality import compare
from las_sj.data.noise import in_words
from las_sj.data.output_folder import CONVERSION, check_output
from las_sj.models import execution_of, running, set_execution
from las_sj.reports.conversion_report import conversion_report


def main(argument_list: list[str] | None = None) -> None:
    """Convert, compare, and write the output folder."""
    request = parse_arguments(argument_list)
    check_device(request.device)
    check_output(request.output, request.overwrite, CONVERSION, request.inputs)
    given = read_data(request)
    with places_of(request.device_map, request.max_memory) as places:
        check_limits(request.max_memory)
        _convert(request, given, places)


def _convert(request: ConvertRequest, given: Given | None, places: dict[str, Any]) -> None:
    model_class = class_to_convert(name_of(request), request.gguf_file, request.trust, rate_coded=True)
    trained = rate_codes_of(read_config(name_of(request), request.gguf_file, request.trust))
    config = request.config_for(trained)
    loaded = load_source(request, model_class, given, places)
    ann, takes, processors = loaded.ann, loaded.takes, loaded.processors
    if trained is not None:
        set_execution(ann, "accumulated")
    data = prepare_data(request, given, takes, ann, processors)
    start = time.perf_counter()
    # Parts on other devices cannot be copied.
    snn = load_original(request, model_class, places) if places else copy.deepcopy(ann)
    with analog_by_option(config):
        snn = convert(snn, config, data.calibration)
    converted = time.perf_counter()
    if given is None and request.model is not None:
        print(f"no data given: {in_words(takes)} instead; give some with {takes.option}", file=sys.stderr)
    with running(snn, request.execution or execution_of(snn).counted_in):
        quality, monitor = compare(ann, snn, data.evaluation)
    quantised = None
    if execution_of(snn).lanes is not None and trained is None:
        with running(snn, "accumulated"):
            quantised, _ = compare(ann, snn, data.evaluation)
    gap = executions_gap(snn, data.evaluation[0])
    seconds = {"convert": converted - start, "compare": time.perf_counter() - converted}
    settings = snn.config.quantization_config.settings
    reference = "ANN" if trained is None else "quantised ANN"
    report = conversion_report(
        snn, called(request), settings, data.source, quality, monitor, gap, seconds, quantised, reference
    )
    written = write_converted(request, snn, processors, data.evaluation, report)
    print(f"{report.summary()}\n\n{written}")
