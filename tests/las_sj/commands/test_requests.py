"""What commands are asked for: read once, checked when made, and never changed after."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

import las_sj
from las_sj.commands import convert_request, evaluate_request, finetune_request, inspect, report
from las_sj.commands.command_line import at_least
from las_sj.commands.convert_request import ConvertRequest
from las_sj.commands.evaluate_request import EvaluateRequest
from las_sj.commands.finetune_request import FinetuneRequest
from las_sj.commands.inspect import InspectRequest
from las_sj.commands.report import ReportRequest

OUT = Path("out")
Parse = Callable[[list[str]], Any]

DEFAULTS: dict[str, tuple[Parse, list[str], Any]] = {
    "convert": (convert_request.parse_arguments, ["--output", "out"], ConvertRequest(OUT)),
    "evaluate": (
        evaluate_request.parse_arguments,
        ["m", "--task", "text", "--output", "out"],
        EvaluateRequest("m", ("text",), OUT),
    ),
    "report": (report.parse_arguments, ["out"], ReportRequest(OUT)),
    "inspect": (inspect.parse_arguments, ["out"], InspectRequest(OUT)),
    "finetune": (
        finetune_request.parse_arguments,
        ["m", "--task", "SST-2", "--output", "out"],
        FinetuneRequest("m", "SST-2", OUT),
    ),
}


@pytest.mark.parametrize("command", list(DEFAULTS))
def test_defaults_are_those_of_the_request(command: str) -> None:
    parse, arguments, expected = DEFAULTS[command]
    request = parse(arguments)
    assert request == expected
    with pytest.raises(FrozenInstanceError):
        request.device = "cuda"


def test_options_become_fields() -> None:
    settings = ["--levels", "3", "--max-spikes", "none", "--single-threshold", "--keep-analog", "a", "b", "--seed", "5"]
    settings.append("--fewer-stages")
    options = ["m", "--output", "out", "--max-memory", "0=1GiB", "cpu=2GiB", "--calibration", "c.txt", "--overwrite"]
    kept = ("a", "b")
    config = las_sj.LASConfig(levels=3, outlier_aware=False, keep_analog=kept, fewer_stages=True, seed=5)
    asked = frozenset({"levels", "max_spikes", "outlier_aware", "keep_analog", "fewer_stages", "seed"})
    assert convert_request.parse_arguments([*options, *settings]) == ConvertRequest(
        OUT, "m", config, asked, overwrite=True, max_memory=("0=1GiB", "cpu=2GiB"), calibration=Path("c.txt")
    )


def test_an_evaluation_knows_which_settings_were_asked_for() -> None:
    """A converted model must have these, though they may be the defaults; a seed is not its own."""
    arguments = ["m", "--task", " text, SST-2,", "--output", "out", "--levels", "15", "--seed", "2"]
    request = evaluate_request.parse_arguments(arguments)
    assert request.tasks == ("text", "SST-2")
    assert request.given == ("levels",)
    assert (request.seed, request.options.seed, request.unfinished) == (2, 2, Path("out.unfinished"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvertRequest(OUT, window=1), "--window must be at least 2, got 1"),
        (lambda: ConvertRequest(OUT, calibration_tokens=1), "--calibration-tokens must be at least 2, got 1"),
        (lambda: ConvertRequest(OUT, batch_size=0), "--batch-size must be at least 1, got 0"),
        (lambda: EvaluateRequest("m", (), OUT), "--task names no task"),
        (lambda: EvaluateRequest("m", ("text", "text"), OUT), "--task names text twice"),
        (lambda: EvaluateRequest("m", ("text",), OUT, stride=0), "--stride must be at least 1, got 0"),
        (lambda: EvaluateRequest("m", ("text",), Path()), "is no name for a new folder"),
        (lambda: ReportRequest(OUT, tokens=1), "--tokens must be at least 2, got 1"),
        (lambda: ConvertRequest(OUT, "m", evaluation=Path("e.txt")), "--evaluation needs --calibration too"),
        (lambda: InspectRequest(OUT, device="meta"), "--device must be cpu, cuda, cuda:1 or another .* got 'meta'"),
        (lambda: InspectRequest(OUT, tokens=0), "--tokens must be at least 1, got 0"),
        (lambda: FinetuneRequest("m", "SST-2", OUT, seed=-1), "--seed must lie in 0…4294967295, got -1"),
    ],
)
def test_refusals(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_nothing_asked_for_is_not_too_small() -> None:
    at_least("limit", None, 1)
    at_least("limit", 1, 1)
    with pytest.raises(ValueError, match="--limit must be at least 1, got 0"):
        at_least("limit", 0, 1)
