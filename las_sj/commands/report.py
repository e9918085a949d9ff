"""The command `python -m las_sj.report`."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from las_sj.analysis.energies.costs import PRESETS
from las_sj.checkpoint.loading import check_folder, load_converted
from las_sj.checkpoint.sample import load_sample
from las_sj.commands.command_line import OneLineParser
from las_sj.data.batches import Batch, first_tokens
from las_sj.data.output_folder import check_file, whole_file
from las_sj.data.text import TextError, read_text, text_batches
from las_sj.reports.markdown import to_markdown
from las_sj.reports.model_report import ModelReport, examine, figures
from las_sj.reports.page import to_html

FORMATS = ("html", "md", "json")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(
        prog="python -m las_sj.report",
        description="Run a converted model on a little text and report its spikes, its energy and every operation.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="output of python -m las_sj.convert")
    parser.add_argument("--format", choices=FORMATS, default="html", help="one HTML file, Markdown or JSON (html)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="file to write (DIR/report.FORMAT)")
    parser.add_argument("--text", type=Path, metavar="FILE", help="text to run (the sample kept with the model)")
    parser.add_argument("--tokens", type=int, default=512, metavar="N", help="of the text (512)")
    parser.add_argument("--window", type=int, default=256, metavar="N", help="tokens per sequence, at most (256)")
    parser.add_argument("--costs", choices=list(PRESETS), default="fp32", help="energies of single operations (fp32)")
    parser.add_argument("--no-equal-loss", action="store_true", help="leave out the comparison with quantised ANNs")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(arguments)


def main(argument_list: list[str] | None = None) -> None:
    """Run, and write the report."""
    arguments = parse_arguments(argument_list)
    for name in ("tokens", "window"):
        if getattr(arguments, name) < 2:
            raise ValueError(f"--{name} must be at least 2, got {getattr(arguments, name)}")
    output = arguments.output or arguments.folder / f"report.{arguments.format}"
    if output.is_dir():
        raise ValueError(f"{output} is a folder: give a file")
    check_folder(arguments.folder)
    check_file(output)
    text = None if arguments.text is None else read_text(arguments.text)
    model, tokenizer = load_converted(arguments.folder, arguments.device)
    batches: Sequence[Batch]
    if text is None:
        batches = first_tokens(load_sample(arguments.folder), arguments.tokens, arguments.window)
        source = "the sample kept with the model"
    elif tokenizer is None:
        raise TextError(f"{arguments.folder} has no tokenizer: leave out --text")
    else:
        batches = text_batches(model, tokenizer, text, arguments.tokens, arguments.window, 1)
        source = str(arguments.text)
    report = examine(model, batches, arguments.folder, source, arguments.costs, not arguments.no_equal_loss)
    with whole_file(output) as file:
        file.write_text(rendered(report, batches[0], arguments.format), encoding="utf-8")
    print(summary(report))
    print(f"Written to {output}")


def rendered(report: ModelReport, batch: Batch, form: str) -> str:
    """The report as HTML, Markdown or JSON."""
    if form == "json":
        return json.dumps(report.to_dict(), indent=1, ensure_ascii=False)
    return to_markdown(report) if form == "md" else to_html(report, figures(report, batch))


def summary(report: ModelReport) -> str:
    """A few lines for the terminal."""
    ratios = ", ".join(f"{name} {report.energy.ratio(name):.3f}" for name in report.energy.accountings)
    verdict = "yes" if report.audit.fully_spike_driven else f"no, {report.audit.analog_products:,} analog products"
    return (
        f"{report.monitor.tokens:,} tokens, {report.monitor.spikes_per_neuron:.3f} spikes per neuron\n"
        f"Energy, SNN / ANN: {ratios}\nFully spike-driven: {verdict}"
    )
