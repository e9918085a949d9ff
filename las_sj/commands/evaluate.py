"""The command `python -m las_sj.evaluate`: tasks, ANN beside SNN."""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel

from las_sj.analysis import plot_differences
from las_sj.commands.command_line import OneLineParser, Unfinished, add_settings, config_of, given_settings
from las_sj.data.batches import Batch
from las_sj.data.output_folder import check_output, whole_folder
from las_sj.data.text import read_text, text_batches
from las_sj.evaluation.digest import digest_of
from las_sj.evaluation.journal import Journal, Processes, check_unfinished, has_finished
from las_sj.evaluation.markdown import to_markdown
from las_sj.evaluation.models import Source, SourceError, load_pair
from las_sj.evaluation.paired import Pair
from las_sj.evaluation.registry import Options, calibration_of, needs_images, prepare
from las_sj.evaluation.result import TaskResult

REPORT = "evaluation.json"
MADE_BY = "an evaluation"
OPTIONS = {"outlier_aware": "single_threshold"}  # settings whose options have other names
VERSIONED = ("las_sj", "torch", "transformers", "tokenizers", "datasets", "lm_eval")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(
        prog="python -m las_sj.evaluate",
        description="Measure a model and its spiking network on the same batches of real tasks.",
    )
    parser.add_argument("model", help="a converted folder, or a hub name or folder to convert first")
    parser.add_argument(
        "--task",
        required=True,
        metavar="NAMES",
        help="with commas: GLUE (SST-2, CoLA, MRPC, STS-B, QQP, MNLI, MNLI-mm, QNLI, RTE, WNLI), texts (wikitext2, "
        "wikitext103, enwik8, text), pope_random, pope_popular, pope_adversarial, yes_no, or any task of lm-eval",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it exists")
    parser.add_argument("--restart", action="store_true", help="forget the finished batches of a run that was cut off")
    parser.add_argument("--limit", type=int, metavar="N", help="rows, tokens or questions of each task (all)")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N")
    parser.add_argument("--execution", choices=("accumulated", "temporal"), default="accumulated")
    parser.add_argument("--gguf-file", metavar="FILE", help="GGUF file within MODEL")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="of a conversion (float32)")
    parser.add_argument("--device", default="cpu")
    data = parser.add_argument_group("data")
    data.add_argument("--data-dir", type=Path, metavar="DIR", help="files of the tasks (the hub)")
    data.add_argument("--text", type=Path, metavar="FILE", help="text to predict")
    data.add_argument("--questions", type=Path, metavar="FILE", help="yes-no questions, JSON lines as in POPE")
    data.add_argument("--images", type=Path, metavar="DIR", help="images of the questions")
    data.add_argument("--window", type=int, default=1024, metavar="N", help="tokens that predict the next one (1024)")
    data.add_argument("--stride", type=int, metavar="N", help="tokens that each window predicts (half of them)")
    data.add_argument(
        "--calibration", type=Path, metavar="FILE", help="text (training rows of a GLUE task; the model's own text)"
    )
    data.add_argument("--calibration-tokens", type=int, default=4096, metavar="N")
    add_settings(parser)
    return parser.parse_args(arguments)


def main(argument_list: list[str] | None = None) -> None:
    """Evaluate, and write the output folder."""
    arguments = parse_arguments(argument_list)
    names = [name.strip() for name in arguments.task.split(",") if name.strip()]
    _check(arguments, names)
    source = _source(arguments)
    _check_source(arguments, source, names)
    options = _options(arguments)
    tasks = [task for name in names for task in prepare(name, options)]
    _check_names([task.name for task in tasks])
    calibration = None if arguments.calibration is None else read_text(arguments.calibration)
    given = calibration_of(names, options)
    processes = Processes(cpu=arguments.device == "cpu")
    with _kept(_unfinished(arguments), KeyboardInterrupt):
        pair = load_pair(
            replace(source, device=processes.device(arguments.device)),
            lambda model, tokenizer: _calibration(arguments, calibration, model, tokenizer) or given(model, tokenizer),
        )
    for task in tasks:
        task.check(pair.ann)
    journal = Journal(_unfinished(arguments), _fingerprint(arguments, pair), processes, arguments.restart)
    with _kept(journal.folder, BaseException), closing(journal):
        results = [result for task in tasks if (result := task.run(pair, journal)) is not None]
        processes.wait()
        if processes.rank == 0:
            text = _write(arguments, _report(arguments, pair, results), results)
            journal.remove()
            print(f"{text}\nWritten to {arguments.output}: {REPORT}, evaluation.md, differences.png")
    processes.end()


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


def _check(arguments: argparse.Namespace, names: list[str]) -> None:
    """Raise on what cannot be, before anything is loaded."""
    for name in ("limit", "batch_size", "window", "stride", "calibration_tokens"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if arguments.seed < 0:
        raise ValueError(f"--seed must be at least 0, got {arguments.seed}")
    if (arguments.stride or 1) > arguments.window:
        raise ValueError(
            f"--stride {arguments.stride} is more than --window {arguments.window}: tokens would be left out"
        )
    if not names:
        raise ValueError("--task names no task")
    _check_names(names)
    if arguments.data_dir is not None and not arguments.data_dir.is_dir():
        raise ValueError(f"--data-dir {arguments.data_dir} is no folder")
    if not arguments.output.name:
        raise ValueError(f"--output {arguments.output} is no name for a new folder")
    check_output(arguments.output, arguments.overwrite, REPORT, MADE_BY)
    if not arguments.restart:
        check_unfinished(_unfinished(arguments), _settings(arguments))


def _check_names(names: list[str]) -> None:
    """Raise where a task comes twice, as it may by itself and in a group."""
    twice = [name for number, name in enumerate(names) if name in names[:number]]
    if twice:
        raise ValueError(f"--task names {twice[0]} twice")


def _check_source(arguments: argparse.Namespace, source: Source, names: list[str]) -> None:
    """Raise where the model is of the wrong kind, or has settings of its own."""
    with_images = [name for name in names if needs_images(name)]
    if source.takes_images and len(with_images) < len(names):
        raise SourceError(f"{source.name} takes images: pope_random, …, and yes_no are the tasks for it")
    if source.takes_images and arguments.calibration is not None:
        raise SourceError(f"{source.name} takes images, of which --calibration has none: leave it out")
    if with_images and not source.takes_images:
        raise SourceError(f"{source.name} takes no images, and {with_images[0]} asks about them")
    own = source.settings
    if own is None:
        return
    wanted, found = source.config.to_dict(), own.to_dict()
    given = [name for name in given_settings(arguments) if name != "seed"]
    other = [OPTIONS.get(name, name) for name in given if wanted[name] != found[name]]
    other += [name for name in ("gguf_file", "calibration", "dtype") if getattr(arguments, name) is not None]
    if other:
        text = ", ".join(f"--{name.replace('_', '-')}" for name in other)
        raise SourceError(f"{source.name} is converted already and has its own settings: leave out {text}")


def _source(arguments: argparse.Namespace) -> Source:
    return Source(
        arguments.model,
        config_of(arguments),
        arguments.gguf_file,
        arguments.execution,
        arguments.dtype or "float32",
        arguments.device,
    )


def _unfinished(arguments: argparse.Namespace) -> Path:
    """Where finished batches lie."""
    path: Path = arguments.output.with_name(f"{arguments.output.name}.unfinished")
    return path


def _options(arguments: argparse.Namespace) -> Options:
    return Options(
        folder=arguments.data_dir,
        text=arguments.text,
        questions=arguments.questions,
        images=arguments.images,
        batch_size=arguments.batch_size,
        window=arguments.window,
        stride=arguments.stride,
        limit=arguments.limit,
        seed=arguments.seed,
    )


def _calibration(
    arguments: argparse.Namespace, text: str | None, model: PreTrainedModel, tokenizer: Any
) -> list[Batch] | None:
    """Batches of the text that was given."""
    if text is None:
        return None
    return [*text_batches(model, tokenizer, text, arguments.calibration_tokens, arguments.window, 1)]


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What finished batches depend on, but for the model and for the batches themselves."""
    names = ("batch_size", "limit", "window", "stride", "execution", "dtype", "device", "seed")
    return {name: getattr(arguments, name) for name in names} | {"versions": _versions()}


def _fingerprint(arguments: argparse.Namespace, pair: Pair) -> dict[str, Any]:
    """All that finished batches depend on, but for the batches themselves."""
    found = (pair.snn.config, getattr(pair.snn, "generation_config", None))
    configurations = [_plain(config) for config in found if config is not None]
    return _settings(arguments) | {
        "weights_or_thresholds": digest_of(pair.snn.state_dict()),
        "configuration_of_the_model": digest_of(configurations),
    }


def _plain(config: PretrainedConfig | GenerationConfig) -> dict[str, Any]:
    """What a configuration says, but for where it lies."""
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return {name: value for name, value in values.items() if name != "_name_or_path"}


def _versions() -> dict[str, str]:
    found = {}
    for name in VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def _report(arguments: argparse.Namespace, pair: Pair, results: list[TaskResult]) -> dict[str, Any]:
    names = ("gguf_file", "data_dir", "text", "questions", "images", "calibration")
    sources = {name: getattr(arguments, name) for name in names}
    return {
        "model": arguments.model,
        "architecture": type(pair.snn).__name__,
        "settings": pair.snn.config.quantization_config.settings.to_dict(),
        **_settings(arguments),
        "dtype": str(pair.ann.dtype).removeprefix("torch."),
        **{name: None if value is None else str(value) for name, value in sources.items()},
        "date": time.strftime("%Y-%m-%d"),
        "tasks": [result.to_dict() for result in results],
    }


def _write(arguments: argparse.Namespace, report: dict[str, Any], results: list[TaskResult]) -> str:
    """Write the output folder; what to show of it."""
    text = to_markdown(report, results)
    bars = [
        (f"{result.task}, {m.metric}", m.ann, m.difference, m.low, m.high)
        for result in results
        for m in result.measures
    ]
    with whole_folder(arguments.output, arguments.overwrite, REPORT, MADE_BY) as folder:
        (folder / REPORT).write_text(
            json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8"
        )
        (folder / "evaluation.md").write_text(text, encoding="utf-8")
        plot_differences(bars).savefig(folder / "differences.png", dpi=130)
    return text
