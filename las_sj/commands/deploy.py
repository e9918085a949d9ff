"""The command `las-sj deploy`."""

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from las_sj.checkpoint.loading import check_folder, load_converted
from las_sj.commands.command_line import OneLineParser
from las_sj.commands.devices import check_device
from las_sj.commands.run_data import RunRequest, add_run
from las_sj.data.output_file import check_file, whole_file
from las_sj.data.output_folder import HARDWARE, MADE_BY_DEPLOY
from las_sj.extras import require_extra
from las_sj.hardware.chip import CHIPS, Chip
from las_sj.hardware.deployment import ENGINES, Options, deploy
from las_sj.hardware.replay import TIMINGS
from las_sj.hardware.report import HardwareReport
from las_sj.reports.examination import read_conversion

EVALUATED = 1024  # tokens that weights of few bits are judged by


@dataclass(frozen=True)
class DeployRequest(RunRequest):
    """A converted model on a chip; what it is run on is that of a `RunRequest`.

    Attributes:
        chip: name of a preset, or a SANA-FE architecture file.
        options: how the network is placed, and what is worked out.
    """

    tokens: int = 8
    chip: str = "loihi"
    options: Options = field(default_factory=Options)


def parse_arguments(arguments: list[str] | None = None) -> DeployRequest:
    """Read the command line, which ends the command where it is wrong."""
    parser = OneLineParser(
        "deploy", "Place a converted model on a neuromorphic chip: cores, traffic, time of a step, latency, energy."
    )
    add_run(parser, DeployRequest.tokens)
    group = parser.add_argument_group("the chip")
    group.add_argument("--chip", metavar="CHIP", help=f"{', '.join(CHIPS)}, or a SANA-FE architecture file (loihi)")
    group.add_argument("--chips", type=int, metavar="N", help="how many there are (1)")
    group.add_argument("--cores-per-layer", type=int, metavar="N", help="that each layer is spread over at least (1)")
    group.add_argument("--weight-bits", type=int, metavar="B", help="of a weight on the chip (8)")
    group.add_argument("--context", type=int, metavar="L", help="tokens that attention reaches back to (those run)")
    group.add_argument("--engine", choices=ENGINES, help="closed form, or a replay by SANA-FE too (closed)")
    group.add_argument("--timing", choices=TIMINGS, help="of SANA-FE (detailed)")
    return parser.request(arguments, _request)


def _request(given: dict[str, Any]) -> DeployRequest:
    own = {each.name: given.pop(each.name) for each in fields(Options) if each.name in given}
    if "timing" in own and own.get("engine") != "sanafe":
        raise ValueError("--timing belongs to --engine sanafe: leave it out")
    chip = given.get("chip", DeployRequest.chip)
    if chip not in CHIPS and not Path(chip).suffix and not Path(chip).is_file():
        raise ValueError(f"--chip must be one of {', '.join(CHIPS)}, or a SANA-FE architecture file, got {chip!r}")
    return DeployRequest(**given, options=Options(**own))


def main(argument_list: list[str] | None = None) -> None:
    """Work it out, and write las_hardware.md and las_hardware.json into the model's folder."""
    request = parse_arguments(argument_list)
    check_device(request.device)
    if request.options.engine == "sanafe":
        require_extra("hardware", "sanafe")
    chip = Chip.named(request.chip)
    check_folder(request.folder, request.trust)
    files = [request.folder / name for name in HARDWARE]
    for file in files:
        check_file(file, MADE_BY_DEPLOY)
    given = request.read()
    model, tokenizer = load_converted(request.folder, request.device, request.trust)
    batches, source = request.batches(given, model, tokenizer)
    evaluation, _ = replace(request, tokens=max(request.tokens, EVALUATED)).batches(given, model, tokenizer)
    found = deploy(model, batches, chip, request.options, evaluation)
    name = read_conversion(request.folder).get("model", str(request.folder))
    report = HardwareReport(str(name), source, found)
    _write(files, [report.to_markdown(), json.dumps(report.to_dict(), indent=1, ensure_ascii=False)])
    print(f"{report.summary()}\nWritten to {' and '.join(map(str, files))}")


def _write(files: list[Path], texts: list[str]) -> None:
    """Both files or none of them."""
    with whole_file(files[0], MADE_BY_DEPLOY) as first, whole_file(files[1], MADE_BY_DEPLOY) as second:
        first.write_text(texts[0], encoding="utf-8")
        second.write_text(texts[1], encoding="utf-8")
