"""The command `las-sj fas calibrate`: step 3 of FAS, which brings spike trains to the quantised ANN."""

import json
import time
from dataclasses import replace

from transformers import PreTrainedModel

from las_sj.checkpoint.loading import load_converted
from las_sj.checkpoint.placement import input_device
from las_sj.checkpoint.sample import save_sample
from las_sj.commands.devices import check_device
from las_sj.commands.fas_calibrate_request import CalibrateRequest, parse_arguments
from las_sj.commands.fas_data import DataRead, read_data
from las_sj.conversion.convert import convert
from las_sj.data.batches import to_device
from las_sj.data.output_folder import TRAINING, check_output, whole_folder
from las_sj.evaluation.glue import TASKS
from las_sj.extras import require_extra
from las_sj.fas_config import FASConfig
from las_sj.training.calibration_report import CalibrationReport, sites_of
from las_sj.training.classification import classes_of_another_task
from las_sj.training.coarse import coarse_calibrate
from las_sj.training.curve import plot_losses
from las_sj.training.errors import TrainingError
from las_sj.training.fine import fine_calibrate
from las_sj.training.language import class_for
from las_sj.training.material import Material
from las_sj.training.start import Start, read_start

HELD_OUT = 5  # one batch of so many chooses the step of the fine calibration
PICTURE = "losses.png"


def calibrate(argument_list: list[str] | None = None) -> None:
    """Calibrate, measure before and after, and write the output folder."""
    request = parse_arguments(argument_list)
    check_device(request.device)
    require_extra("glue", "accelerate", "datasets", "scipy", "sklearn")
    check_output(request.output, request.overwrite, TRAINING, request.inputs)
    start = _start(request)
    data = read_data(request.data, start.config, start.name, request.fine.seed)
    _check_head(request, start, data)
    model, tokenizer = load_converted(request.model, request.device)
    if tokenizer is None:
        raise TrainingError(f"{request.model} has no tokenizer: save that of the original model there")
    material = data.material(model, tokenizer, request.batch_size)
    report = _calibrated(request, start, model, material)
    with whole_folder(request.output, request.overwrite, TRAINING, request.inputs) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        save_sample(material.held_out, folder)
        content = json.dumps(report.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        (folder / TRAINING.report).write_text(content, encoding="utf-8")
        if report.fine is not None:
            points = [*enumerate(report.fine.losses, 1)]
            plot_losses(points, f"calibrate of {report.architecture}").savefig(folder / PICTURE, dpi=130)
    print(f"{report.summary()}\nWritten to {request.output}: config.json, model.safetensors, tokenizer, fas.json")


def _start(request: CalibrateRequest) -> Start:
    if not request.model.is_dir():
        raise TrainingError(f"there is no folder {request.model}: give the output of las-sj fas finetune")
    start = read_start(str(request.model))
    if start.settings is None:
        raise TrainingError(f"{request.model} is no checkpoint of rate codes: give the output of las-sj fas finetune")
    return start


def _check_head(request: CalibrateRequest, start: Start, data: DataRead) -> None:
    """Raise where the model has another head than the data is for."""
    if data.objective is None:
        task = TASKS[str(request.data.task)]
        if not start.is_classifier:
            raise TrainingError(f"{start.name} is a {start.architecture}, no classifier: give --text")
        if start.config.num_labels != (len(task.labels) or 1):
            raise TrainingError(f"{start.name} tells {start.config.num_labels} classes apart: give its own --task")
        others = classes_of_another_task(start.config, task)
        if others:
            raise TrainingError(f"{start.name} tells {', '.join(others)} apart, not {task.name}: give its own --task")
    elif start.architecture != class_for(start.config, data.objective).__name__:
        raise TrainingError(f"{start.name} is a {start.architecture}, no model of language: give --task")


def _calibrated(
    request: CalibrateRequest, start: Start, model: PreTrainedModel, material: Material
) -> CalibrationReport:
    begun = time.perf_counter()
    rows = material.batches(request.batches, request.batch_size, request.fine.seed)
    batches = [to_device(batch, input_device(model)) for batch in rows]
    if len(batches) < 2:
        raise TrainingError("there are fewer than two batches: give more data, or a smaller --batch-size")
    config = _settings(request, start)
    if config != start.settings:
        convert(model, config, batches[:1])  # which keeps the thresholds of the ANN
    before = material.measure(model)
    count = max(1, len(batches) // HELD_OUT)
    train, held_out = batches[count:], batches[:count]
    per_channel = request.search == "channel"
    coarse = [] if request.search == "none" else coarse_calibrate(model, train, per_channel=per_channel)
    settings = request.fine
    if settings.granularity == "position":
        settings = replace(settings, positions=material.length)
    fine = fine_calibrate(model, train, held_out, settings) if settings.steps else None
    return CalibrationReport(
        model=start.name,
        architecture=str(start.architecture),
        config=model.config.quantization_config.settings,
        data=material.facts | {"batches": len(batches), "batch_size": request.batch_size},
        settings=settings,
        search=request.search,
        coarse=coarse,
        fine=fine,
        before=before,
        after=material.measure(model),
        sites=sites_of(model),
        seconds=time.perf_counter() - begun,
    )


def _settings(request: CalibrateRequest, start: Start) -> FASConfig:
    assert start.settings is not None
    own = replace(start.settings, method="fas", presimulation_steps=None, iterations=1)
    return own if request.time_steps is None else own.at(request.time_steps)
