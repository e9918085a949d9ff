"""The command `python -m las_sj.convert`."""

import argparse
import copy
import json
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from las_sj.analysis import SpikeMonitor, plot_raster
from las_sj.checkpoint.loading import default_model, load_model
from las_sj.checkpoint.model_card import model_card
from las_sj.checkpoint.placement import DEVICE_MAPS, input_device, places_of
from las_sj.checkpoint.sample import save_sample
from las_sj.commands.command_line import OneLineParser, add_settings, config_of
from las_sj.config import LASConfig
from las_sj.conversion.calibration_data import generated_batches
from las_sj.conversion.convert import check_weights, convert
from las_sj.conversion.quality import Quality, compare
from las_sj.data.batches import to_device
from las_sj.data.output_folder import REPORT, check_output, whole_folder
from las_sj.data.text import TextBatch, TextError, read_text, split_held_out, text_batches
from las_sj.models import set_execution
from las_sj.reports.conversion_report import build_report, to_markdown

RASTER_TOKENS = 24


@dataclass
class Data:
    """Calibration and evaluation batches, and where they came from."""

    calibration: list[TextBatch]
    evaluation: list[TextBatch]
    source: dict[str, str] = field(default_factory=dict)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(
        prog="python -m las_sj.convert",
        description="Turn a pre-trained transformer into a fully spike-driven network, without retraining.",
    )
    parser.add_argument("model", nargs="?", help="hub name or folder; a small GPT-2 of this package if left out")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it exists")
    parser.add_argument("--gguf-file", metavar="FILE", help="GGUF file within MODEL")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--device-map", choices=DEVICE_MAPS, help="spread a large model over devices, CPU and disk (accelerate)"
    )
    parser.add_argument(
        "--max-memory", nargs="+", default=[], metavar="DEVICE=SIZE", help="for --device-map auto: 0=20GiB cpu=8GiB"
    )
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    add_settings(parser)
    group = parser.add_argument_group("data")
    group.add_argument("--calibration", type=Path, metavar="FILE", help="text to calibrate on (the model's own)")
    group.add_argument("--evaluation", type=Path, metavar="FILE", help="text to compare on (its end)")
    group.add_argument("--calibration-tokens", type=int, default=4096, metavar="N")
    group.add_argument("--evaluation-tokens", type=int, default=4096, metavar="N")
    group.add_argument("--window", type=int, default=256, metavar="N", help="tokens per window (256)")
    group.add_argument("--batch-size", type=int, default=4, metavar="N", help="windows per batch (4)")
    group.add_argument(
        "--execution", choices=("accumulated", "temporal"), default="accumulated", help="for the comparison"
    )
    return parser.parse_args(arguments)


def main(argument_list: list[str] | None = None) -> None:
    """Convert, compare, and write the output folder."""
    arguments = parse_arguments(argument_list)
    config = config_of(arguments)
    _check_counts(arguments)
    check_output(arguments.output, arguments.overwrite)
    texts = _read_texts(arguments)
    name = arguments.model or str(default_model())
    with places_of(arguments.device_map, arguments.max_memory) as places:
        _convert(arguments, config, texts, name, places)


def _convert(
    arguments: argparse.Namespace,
    config: LASConfig,
    texts: tuple[str | None, str | None],
    name: str,
    places: dict[str, Any],
) -> None:
    loading = (name, arguments.gguf_file, getattr(torch, arguments.dtype), arguments.device, places)
    ann, tokenizer = load_model(*loading)
    check_weights(ann)
    data = _prepare_data(arguments, texts, ann, tokenizer)
    seconds: dict[str, float] = {}
    start = time.perf_counter()
    snn = load_model(*loading)[0] if places else copy.deepcopy(ann)  # parts on other devices cannot be copied
    snn = convert(snn, config, data.calibration)
    seconds["convert"] = time.perf_counter() - start
    start = time.perf_counter()
    set_execution(snn, arguments.execution)
    quality, monitor = compare(ann, snn, data.evaluation)
    gap = executions_gap(snn, data.evaluation[0])
    seconds["compare"] = time.perf_counter() - start
    source = arguments.model or "the default model (GPT-2, Tiny Shakespeare)"
    report = build_report(snn, source, config, data.source, quality, monitor, gap, seconds)
    _write(arguments, snn, tokenizer, data, report)
    _print_summary(report, quality, monitor, arguments.output)


def _check_counts(arguments: argparse.Namespace) -> None:
    for name in ("calibration_tokens", "evaluation_tokens", "window", "batch_size"):
        least = 2 if name != "batch_size" else 1
        if getattr(arguments, name) < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {getattr(arguments, name)}")


def _read_texts(arguments: argparse.Namespace) -> tuple[str | None, str | None]:
    """Calibration and evaluation text, before the model is loaded, so that a wrong path is found at once."""
    calibration, evaluation = arguments.calibration, arguments.evaluation
    if arguments.model is None:
        calibration = calibration or default_model() / "calibration.txt"
        evaluation = evaluation or default_model() / "evaluation.txt"
    if calibration is None and evaluation is not None:
        raise TextError("--evaluation needs --calibration too")
    if calibration is None:
        return None, None
    text = read_text(calibration)
    return (text, read_text(evaluation)) if evaluation is not None else split_held_out(text)


def _prepare_data(
    arguments: argparse.Namespace,
    texts: tuple[str | None, str | None],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> Data:
    calibration, evaluation = texts
    if calibration is None or evaluation is None:
        return Data(
            generated_batches(model, arguments.seed),
            generated_batches(model, arguments.seed + 1, batches=2),
            {"calibration": "none given: generated by the model itself, or random tokens", "evaluation": "likewise"},
        )
    batches = []
    for text, tokens in ((calibration, arguments.calibration_tokens), (evaluation, arguments.evaluation_tokens)):
        batches.append(text_batches(model, tokenizer, text, tokens, arguments.window, arguments.batch_size))
        _check_ids(batches[-1], model)
    own = "the default model's held-out text" if arguments.model is None else None
    held_out = f"the last part of {arguments.calibration}"
    return Data(
        batches[0],
        batches[1],
        {
            "calibration": str(arguments.calibration or own),
            "evaluation": str(arguments.evaluation or own or held_out),
        },
    )


def _check_ids(batches: list[TextBatch], model: PreTrainedModel) -> None:
    largest, known = max(int(batch["input_ids"].max()) for batch in batches), model.config.vocab_size
    if largest >= known:
        raise TextError(f"the tokenizer gives token {largest}, but the model knows {known} tokens: they do not match")


@torch.no_grad()
def executions_gap(snn: PreTrainedModel, batch: TextBatch) -> float:
    """‖temporal − accumulated‖/‖accumulated‖ of the first output for one sequence; leaves the model temporal."""
    short = {key: value[:1, : RASTER_TOKENS * 4] for key, value in to_device(batch, input_device(snn)).items()}
    mask = short.get("attention_mask", torch.ones_like(short["input_ids"])).bool()
    outputs = []
    for execution in ("accumulated", "temporal"):
        set_execution(snn, execution)
        output = snn(**short)[0]
        outputs.append(output[mask] if output.dim() == 3 else output)
    return float((outputs[1] - outputs[0]).norm() / outputs[0].norm())


def _write(
    arguments: argparse.Namespace,
    snn: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: Data,
    report: dict[str, object],
) -> None:
    short = {key: value[:1, :RASTER_TOKENS] for key, value in to_device(data.evaluation[0], input_device(snn)).items()}
    with whole_folder(arguments.output, arguments.overwrite) as folder:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Attempting to save a model with offloaded modules")
            snn.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        save_sample(data.evaluation, folder)
        (folder / REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
        (folder / "las_report.md").write_text(to_markdown(report), encoding="utf-8")
        figures = to_markdown(report).partition("\n")[2].split("\n## Neurons")[0]
        model_card(report, figures.strip()).save(folder / "README.md")
        plot_raster(snn, short).savefig(folder / "raster.png", dpi=130)


def _print_summary(report: dict[str, object], quality: Quality, monitor: SpikeMonitor, output: Path) -> None:
    print(to_markdown(report).split("\n## Neurons")[0])
    print(f"Written to {output}: config.json, model.safetensors, tokenizer, README.md, las_report.json, raster.png, …")
    print(f"Look at it: python -m las_sj.report {output}   python -m las_sj.inspect {output}")
