"""The command `las-sj report`."""

import json
from dataclasses import dataclass
from pathlib import Path

from las_sj.analysis.energies.costs import PRESETS
from las_sj.checkpoint.loading import check_folder, load_converted
from las_sj.commands.command_line import OneLineParser
from las_sj.commands.devices import check_device
from las_sj.commands.run_data import RunRequest, add_run
from las_sj.data.batches import Batch
from las_sj.data.output_file import MADE_BY, check_file, whole_file
from las_sj.reports.examination import examine
from las_sj.reports.model_report import ModelReport
from las_sj.reports.page import to_html
from las_sj.reports.pictures import figures

FORMATS = ("html", "md", "json")


@dataclass(frozen=True)
class ReportRequest(RunRequest):
    """A report of a converted model; what it is run on is that of a `RunRequest`.

    Attributes:
        format: one of `FORMATS`.
        output: file to write; None is report.FORMAT in the folder.
        costs: name of a preset of energies.
        equal_loss: whether to compare with quantised ANNs.
    """

    format: str = "html"
    output: Path | None = None
    costs: str = "fp32"
    equal_loss: bool = True

    @property
    def file(self) -> Path:
        """To write."""
        return self.output or self.folder / f"report.{self.format}"


def parse_arguments(arguments: list[str] | None = None) -> ReportRequest:
    """Read the command line, which ends the command where it is wrong."""
    parser = OneLineParser(
        "report", "Run a converted model on a little data and report its spikes, its energy and every operation."
    )
    add_run(parser, ReportRequest.tokens)
    parser.add_argument("--format", choices=FORMATS, help="one HTML file, Markdown or JSON (html)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="file to write (DIR/report.FORMAT)")
    parser.add_argument("--costs", choices=list(PRESETS), help="energies of single operations (fp32)")
    parser.add_argument(
        "--no-equal-loss",
        action="store_false",
        dest="equal_loss",
        help="leave out the comparison with quantised ANNs",
    )
    return parser.request(arguments, lambda given: ReportRequest(**given))


def main(argument_list: list[str] | None = None) -> None:
    """Run, and write the report."""
    request = parse_arguments(argument_list)
    check_device(request.device)
    check_folder(request.folder, request.trust)
    check_file(request.file, MADE_BY)
    given = request.read()
    model, tokenizer = load_converted(request.folder, request.device, request.trust)
    batches, source = request.batches(given, model, tokenizer)
    report = examine(model, batches, request.folder, source, request.costs, request.equal_loss)
    with whole_file(request.file, MADE_BY) as file:
        file.write_text(rendered(report, batches[0], request.format), encoding="utf-8")
    print(f"{report.summary()}\nWritten to {request.file}")


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
