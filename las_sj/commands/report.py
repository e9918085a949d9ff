"""The command `las-sj report`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from las_sj.analysis.energies.costs import PRESETS
from las_sj.checkpoint.loading import check_folder, load_converted
from las_sj.checkpoint.sample import load_sample
from las_sj.commands.command_line import OneLineParser, at_least
from las_sj.commands.devices import check_device, check_device_name
from las_sj.data.batches import Batch, first_tokens
from las_sj.data.output_file import MADE_BY, check_file, whole_file
from las_sj.data.text import TextError, read_text, text_batches, tokens_known
from las_sj.reports.examination import examine
from las_sj.reports.model_report import ModelReport
from las_sj.reports.page import to_html
from las_sj.reports.pictures import figures

FORMATS = ("html", "md", "json")


@dataclass(frozen=True)
class ReportRequest:
    """A report of a converted model.

    Attributes:
        folder: of the model.
        format: one of `FORMATS`.
        output: file to write; None is report.FORMAT in the folder.
        text: file of text to run; None is the sample kept with the model.
        tokens: of the text.
        window: tokens of a sequence, at most.
        costs: name of a preset of energies.
        equal_loss: whether to compare with quantised ANNs.
        device: for the weights.

    Raises:
        ValueError: a number is too small, or there is no such device.
    """

    folder: Path
    format: str = "html"
    output: Path | None = None
    text: Path | None = None
    tokens: int = 512
    window: int = 256
    costs: str = "fp32"
    equal_loss: bool = True
    device: str = "cpu"

    def __post_init__(self) -> None:
        at_least("tokens", self.tokens, 2)
        at_least("window", self.window, 2)
        check_device_name(self.device)

    @property
    def file(self) -> Path:
        """To write."""
        return self.output or self.folder / f"report.{self.format}"


def parse_arguments(arguments: list[str] | None = None) -> ReportRequest:
    """Read the command line, which ends the command where it is wrong."""
    parser = OneLineParser(
        "report", "Run a converted model on a little text and report its spikes, its energy and every operation."
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="output of las-sj convert")
    parser.add_argument("--format", choices=FORMATS, help="one HTML file, Markdown or JSON (html)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="file to write (DIR/report.FORMAT)")
    parser.add_argument("--text", type=Path, metavar="FILE", help="text to run (the sample kept with the model)")
    parser.add_argument("--tokens", type=int, metavar="N", help="of the text (512)")
    parser.add_argument("--window", type=int, metavar="N", help="tokens per sequence, at most (256)")
    parser.add_argument("--costs", choices=list(PRESETS), help="energies of single operations (fp32)")
    parser.add_argument(
        "--no-equal-loss",
        action="store_false",
        dest="equal_loss",
        help="leave out the comparison with quantised ANNs",
    )
    parser.add_argument("--device")
    return parser.request(arguments, lambda given: ReportRequest(**given))


def main(argument_list: list[str] | None = None) -> None:
    """Run, and write the report."""
    request = parse_arguments(argument_list)
    check_device(request.device)
    check_folder(request.folder)
    check_file(request.file, MADE_BY)
    text = None if request.text is None else read_text(request.text)
    model, tokenizer = load_converted(request.folder, request.device)
    batches, source = _data(request, text, model, tokenizer)
    report = examine(model, batches, request.folder, source, request.costs, request.equal_loss)
    with whole_file(request.file, MADE_BY) as file:
        file.write_text(rendered(report, batches[0], request.format), encoding="utf-8")
    print(f"{report.summary()}\nWritten to {request.file}")


def _data(
    request: ReportRequest, text: str | None, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None
) -> tuple[Sequence[Batch], str]:
    """Batches of the text, or of the sample kept with the model, and where they come from."""
    if text is None:
        batches = first_tokens(load_sample(request.folder, tokens_known(model)), request.tokens, request.window)
        return batches, "the sample kept with the model"
    if tokenizer is None:
        raise TextError(f"{request.folder} has no tokenizer: leave out --text")
    return text_batches(model, tokenizer, text, request.tokens, request.window, 1), str(request.text)


def rendered(report: ModelReport, batch: Batch, form: str) -> str:
    """The report as HTML, Markdown or JSON.

    Args:
        report: as `examine` returns.
        batch: what the pictures of a page show a temporal call of.
        form: one of `FORMATS`.
    """
    if form == "json":
        return json.dumps(report.to_dict(), indent=1, ensure_ascii=False)
    return report.to_markdown() if form == "md" else to_html(report, figures(report, batch))
