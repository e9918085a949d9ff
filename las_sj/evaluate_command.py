"""The command `python -m las_sj.evaluate`: tasks, ANN beside SNN."""

import argparse
import json
import shutil
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

import las_sj
from las_sj.analysis import plot_differences
from las_sj.calibration import Batch
from las_sj.command_line import OneLineParser, Unfinished, add_settings, config_of
from las_sj.evaluation import is_language_model
from las_sj.output_folder import check_output, whole_folder
from las_sj.tasks.journal import Journal, Processes
from las_sj.tasks.markdown import to_markdown
from las_sj.tasks.models import Source, load_pair
from las_sj.tasks.registry import Options, calibration_of, prepare
from las_sj.tasks.result import TaskResult
from las_sj.text import padded_lines, read_text, token_windows

REPORT = "evaluation.json"
MADE_BY = "an evaluation"


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
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
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
    _check(arguments)
    check_output(arguments.output, arguments.overwrite, REPORT, MADE_BY)
    options = _options(arguments)
    names = [name for name in arguments.task.split(",") if name]
    runs = [run for name in names for run in prepare(name, options)]
    calibration = None if arguments.calibration is None else read_text(arguments.calibration)
    processes = Processes()
    source = Source(
        arguments.model,
        config_of(arguments),
        arguments.gguf_file,
        arguments.execution,
        arguments.dtype,
        processes.device(arguments.device),
    )
    given = calibration_of(names, options)
    pair = load_pair(
        source,
        lambda model, tokenizer: _calibration(arguments, calibration, model, tokenizer) or given(model, tokenizer),
    )
    unfinished = arguments.output.with_name(f"{arguments.output.name}.unfinished")
    start = time.perf_counter()
    journal = Journal(unfinished, _fingerprint(arguments, pair.snn), processes, arguments.restart)
    try:
        results = [result for _, run in runs if (result := run(pair, journal)) is not None]
    except KeyboardInterrupt:
        raise Unfinished(f"finished batches are kept in {unfinished}, the same command goes on") from None
    finally:
        journal.discard_if_empty()
    processes.wait()
    if processes.rank == 0:
        _write(arguments, _report(arguments, pair.snn, results, time.perf_counter() - start), results)
        shutil.rmtree(unfinished)


def _check(arguments: argparse.Namespace) -> None:
    """Raise on values out of range, before anything is read."""
    if arguments.stride is None:
        arguments.stride = max(arguments.window // 2, 1)
    for name in ("limit", "batch_size", "window", "stride", "calibration_tokens"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if not any(arguments.task.split(",")):
        raise ValueError("--task names no task")
    if arguments.data_dir is not None and not arguments.data_dir.is_dir():
        raise ValueError(f"--data-dir {arguments.data_dir} is no folder")


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
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", arguments.window)
    if is_language_model(model):
        window = min(arguments.window, longest)
        return [*token_windows(tokenizer, text, arguments.calibration_tokens, window, 1)]
    return [*padded_lines(tokenizer, text, arguments.calibration_tokens, longest)]


def _fingerprint(arguments: argparse.Namespace, snn: PreTrainedModel) -> dict[str, Any]:
    """All that finished batches depend on."""
    names = ("batch_size", "limit", "window", "stride", "execution", "dtype", "seed", "data_dir", "text", "questions")
    settings = {name: getattr(arguments, name) for name in (*names, "images")}
    return {
        **{name: str(value.resolve()) if isinstance(value, Path) else value for name, value in settings.items()},
        "weights_or_thresholds": digest(snn),
        "versions": _versions(),
    }


def digest(model: PreTrainedModel) -> str:
    """Of all weights, thresholds and tables."""
    found = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def _versions() -> dict[str, str]:
    return {"las_sj": las_sj.__version__, "torch": torch.__version__, "transformers": transformers.__version__}


def _report(
    arguments: argparse.Namespace, snn: PreTrainedModel, results: list[TaskResult], seconds: float
) -> dict[str, Any]:
    settings = snn.config.quantization_config.settings.to_dict()
    return {
        "model": arguments.model,
        "architecture": type(snn).__name__,
        "settings": settings,
        "execution": arguments.execution,
        "limit": arguments.limit,
        "batch_size": arguments.batch_size,
        "seed": arguments.seed,
        "versions": _versions(),
        "date": time.strftime("%Y-%m-%d"),
        "seconds": seconds,
        "tasks": [result.to_dict() for result in results],
    }


def _write(arguments: argparse.Namespace, report: dict[str, Any], results: list[TaskResult]) -> None:
    text = to_markdown(report, results)
    bars = [
        (f"{result.task}, {m.metric}", m.ann, m.difference, m.low, m.high)
        for result in results
        for m in result.measures
    ]
    with whole_folder(arguments.output, arguments.overwrite, REPORT, MADE_BY) as folder:
        (folder / REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
        (folder / "evaluation.md").write_text(text, encoding="utf-8")
        plot_differences(bars).savefig(folder / "differences.png", dpi=130)
    print(text)
    print(f"Written to {arguments.output}: {REPORT}, evaluation.md, differences.png")
