"""The command `las-sj evaluate`: tasks, ANN beside SNN."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel

from las_sj.analysis import plot_differences
from las_sj.commands.analog import analog_by_option
from las_sj.commands.command_line import OPTIONS, Unfinished, option_of
from las_sj.commands.devices import check_device
from las_sj.commands.evaluate_request import EvaluateRequest, check_names, parse_arguments
from las_sj.data.batches import Batch
from las_sj.data.output_folder import EVALUATION, check_output, whole_folder
from las_sj.data.text import read_text, text_batches
from las_sj.evaluation.digest import digest_of
from las_sj.evaluation.errors import SourceError
from las_sj.evaluation.journal import EVALUATION as UNFINISHED
from las_sj.evaluation.journal import Journal, Processes, has_finished
from las_sj.evaluation.models import Source, load_pair
from las_sj.evaluation.paired import Pair
from las_sj.evaluation.registry import Task, calibration_of, kind_of, prepare
from las_sj.evaluation.report import EvaluationReport, RunSettings, installed_versions
from las_sj.evaluation.result import TaskResult

TASKS = {
    "questions": "pope_random, …, and yes_no are the tasks",
    "images": "image_classes is the task",
    "sound": "speech is the task",
}
NEEDS = {"questions": "asks about them", "images": "is about them", "sound": "is about"}


def main(argument_list: list[str] | None = None) -> None:
    """Evaluate, and write the output folder."""
    request = parse_arguments(argument_list)
    check_device(request.device)
    _check_folders(request)
    _check_source(request, request.source)
    tasks = [task for name in request.tasks for task in prepare(name, request.options)]
    check_names(tuple(task.name for task in tasks))
    processes, pair = _load(request)
    for task in tasks:
        task.check(pair.ann)
    journal = Journal(request.unfinished, _fingerprint(request, pair), processes, request.restart)
    with _kept(journal.folder, BaseException), closing(journal):
        _run(request, tasks, pair, journal)
    processes.end()


def _run(request: EvaluateRequest, tasks: Sequence[Task], pair: Pair, journal: Journal) -> None:
    """All processes take part; the first one writes."""
    results = [result for task in tasks if (result := task.run(pair, journal)) is not None]
    journal.processes.wait()
    for result in results:
        result.check_finite()
    if journal.processes.rank == 0:
        report = _report(request, pair, results)
        _write(request, report)
        journal.remove()
        print(f"{report.summary()}\nWritten to {request.output}: {EVALUATION.report}, evaluation.md, differences.png")


def _load(request: EvaluateRequest) -> tuple[Processes, Pair]:
    """The processes that share the work, and both models on this one's device."""
    text = None if request.calibration is None else read_text(request.calibration)
    of_first_task = calibration_of(request.tasks, request.options)

    def calibration(model: PreTrainedModel, tokenizer: Any) -> list[Batch] | None:
        if text is None:
            return of_first_task(model, tokenizer)
        return [*text_batches(model, tokenizer, text, request.calibration_tokens, request.window, 1)]

    processes = Processes(cpu=request.device == "cpu")
    with _kept(request.unfinished, KeyboardInterrupt), analog_by_option(request.config):
        return processes, load_pair(replace(request.source, device=processes.device(request.device)), calibration)


@contextmanager
def _kept(folder: Path, kind: type[BaseException]) -> Iterator[None]:
    """Errors of a kind that end the work before its time say what there is to go on with."""
    try:
        yield
    except kind as error:
        if has_finished(folder):
            kept = f"finished batches are kept in {folder}, the same command goes on"
            if isinstance(error, KeyboardInterrupt):
                raise Unfinished(kept) from None
            error.add_note(kept)
        raise


def _check_folders(request: EvaluateRequest) -> None:
    """Raise where a folder cannot be written, or holds something else, before anything is loaded."""
    if request.data_dir is not None and not request.data_dir.is_dir():
        raise OSError(f"--data-dir {request.data_dir} is no folder: give the one that holds the files of the tasks")
    check_output(request.output, request.overwrite, EVALUATION, request.inputs)
    if not request.restart:
        UNFINISHED.check(request.unfinished, _settings(request).to_dict())


def _check_source(request: EvaluateRequest, source: Source) -> None:
    """Raise where the model is of the wrong kind, or has settings of its own."""
    kind, others = source.kind, [name for name in request.tasks if kind_of(name) != source.kind]
    takes = "sound" if kind == "sound" else "images"
    if others and kind != "text":
        raise SourceError(f"{source.name} takes {takes}: {TASKS[kind]} for it")
    if others:
        wanted = "sound, which" if kind_of(others[0]) == "sound" else "images, and"
        raise SourceError(f"{source.name} takes no {wanted} {others[0]} {NEEDS[kind_of(others[0])]}")
    if kind != "text" and request.calibration is not None:
        raise SourceError(f"{source.name} takes {takes}, of which --calibration has none: leave it out")
    own = source.settings
    if own is None:
        return
    if source.runs_in != own.counted_in == "temporal":
        raise SourceError(
            f"{source.name} is of rate codes, whose accumulated execution is the ANN of this evaluation: leave out "
            "--execution accumulated"
        )
    asked, found = ({"method": "las"} | config.to_dict() for config in (source.config, own))
    differing = [name for name in request.given if asked.get(name) != found.get(name)]
    other = list(
        dict.fromkeys("preset" if name in request.of_preset else OPTIONS.get(name, name) for name in differing)
    )
    other += [name for name in ("gguf_file", "calibration", "dtype") if getattr(request, name) is not None]
    if other:
        text = ", ".join(map(option_of, other))
        raise SourceError(f"{source.name} is converted already and has its own settings: leave out {text}")


def _settings(request: EvaluateRequest) -> RunSettings:
    return RunSettings(
        batch_size=request.batch_size,
        limit=request.limit,
        window=request.window,
        stride=request.stride,
        execution=request.source.runs_in,
        dtype=request.dtype,
        device=request.device,
        seed=request.seed,
        versions=installed_versions(),
    )


def _fingerprint(request: EvaluateRequest, pair: Pair) -> dict[str, Any]:
    """All that finished batches depend on, but for the batches themselves."""
    found = (pair.snn.config, getattr(pair.snn, "generation_config", None))
    configurations = [_plain(config) for config in found if config is not None]
    return _settings(request).to_dict() | {
        "weights_or_thresholds": digest_of(pair.snn.state_dict()),
        "configuration_of_the_model": digest_of(configurations),
    }


def _plain(config: PretrainedConfig | GenerationConfig) -> dict[str, Any]:
    """What a configuration says, but for where it lies."""
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return {name: value for name, value in values.items() if name != "_name_or_path"}


def _report(request: EvaluateRequest, pair: Pair, results: Sequence[TaskResult]) -> EvaluationReport:
    return EvaluationReport(
        model=request.model,
        architecture=type(pair.snn).__name__,
        settings=pair.snn.config.quantization_config.settings,
        run=replace(_settings(request), dtype=str(pair.ann.dtype).removeprefix("torch.")),
        files=request.files,
        date=time.strftime("%Y-%m-%d"),
        results=results,
        ann_is=pair.ann_is,
    )


def _write(request: EvaluateRequest, report: EvaluationReport) -> None:
    content = json.dumps(report.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    with whole_folder(request.output, request.overwrite, EVALUATION, request.inputs) as folder:
        (folder / EVALUATION.report).write_text(content, encoding="utf-8")
        (folder / "evaluation.md").write_text(report.to_markdown(), encoding="utf-8")
        plot_differences(report.bars()).savefig(folder / "differences.png", dpi=130)
