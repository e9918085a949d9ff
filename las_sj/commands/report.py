"""The command `las-sj report`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from las_sj.analysis.energies.costs import PRESETS
from las_sj.checkpoint.loading import check_folder, load_converted
from las_sj.checkpoint.processors import load_processors
from las_sj.checkpoint.sample import sample_of
from las_sj.commands.command_line import OneLineParser, at_least
from las_sj.commands.devices import check_device, check_device_name
from las_sj.commands.media_options import add_media, add_trust, check_takes, one_of
from las_sj.conversion.media_batches import media_batches, model_batch
from las_sj.data.batches import Batch, first_tokens
from las_sj.data.examples import evenly
from las_sj.data.media import Media, read_media
from las_sj.data.modalities import modalities_of
from las_sj.data.output_file import MADE_BY, check_file, whole_file
from las_sj.data.text import TextError, read_text, text_batches
from las_sj.reports.examination import examine
from las_sj.reports.model_report import ModelReport
from las_sj.reports.page import to_html
from las_sj.reports.pictures import figures

FORMATS = ("html", "md", "json")
SAMPLES = 4


@dataclass(frozen=True)
class ReportRequest:
    """A report of a converted model.

    Attributes:
        folder: of the model.
        format: one of `FORMATS`.
        output: file to write; None is report.FORMAT in the folder.
        text: file of text to run; the sample kept with the model, where nothing is given.
        images, audio: folders of images or sounds to run.
        pairs: file of texts with an image or a sound each to run.
        samples: images, sounds or pairs that are taken, at most.
        tokens: of the text.
        window: tokens of a sequence, at most.
        costs: name of a preset of energies.
        equal_loss: whether to compare with quantised ANNs.
        device: for the weights.
        trust: whether code that comes with the model may run.

    Raises:
        ValueError: a number is too small, there is no such device, or data of several kinds are given.
    """

    folder: Path
    format: str = "html"
    output: Path | None = None
    text: Path | None = None
    images: Path | None = None
    audio: Path | None = None
    pairs: Path | None = None
    samples: int = SAMPLES
    tokens: int = 512
    window: int = 256
    costs: str = "fp32"
    equal_loss: bool = True
    device: str = "cpu"
    trust: bool = False

    def __post_init__(self) -> None:
        one_of(self._data)
        at_least("samples", self.samples, 1)
        at_least("tokens", self.tokens, 2)
        at_least("window", self.window, 2)
        check_device_name(self.device)

    @property
    def data_option(self) -> str | None:
        """The field that names what is run; None for the sample kept with the model."""
        return one_of(self._data)

    @property
    def _data(self) -> dict[str, Path | None]:
        return {name: getattr(self, name) for name in ("text", "images", "audio", "pairs")}

    @property
    def file(self) -> Path:
        """To write."""
        return self.output or self.folder / f"report.{self.format}"


def parse_arguments(arguments: list[str] | None = None) -> ReportRequest:
    """Read the command line, which ends the command where it is wrong."""
    parser = OneLineParser(
        "report", "Run a converted model on a little data and report its spikes, its energy and every operation."
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="output of las-sj convert")
    parser.add_argument("--format", choices=FORMATS, help="one HTML file, Markdown or JSON (html)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="file to write (DIR/report.FORMAT)")
    parser.add_argument("--text", type=Path, metavar="FILE", help="text to run (the sample kept with the model)")
    add_media(parser, SAMPLES)
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
    add_trust(parser)
    return parser.request(arguments, lambda given: ReportRequest(**given))


def main(argument_list: list[str] | None = None) -> None:
    """Run, and write the report."""
    request = parse_arguments(argument_list)
    check_device(request.device)
    check_folder(request.folder, request.trust)
    check_file(request.file, MADE_BY)
    given = _read(request)
    model, tokenizer = load_converted(request.folder, request.device, request.trust)
    batches, source = _data(request, given, model, tokenizer)
    report = examine(model, batches, request.folder, source, request.costs, request.equal_loss)
    with whole_file(request.file, MADE_BY) as file:
        file.write_text(rendered(report, batches[0], request.format), encoding="utf-8")
    print(f"{report.summary()}\nWritten to {request.file}")


def _read(request: ReportRequest) -> str | Media | None:
    """What was given, read before the model is loaded."""
    if request.text is not None:
        return read_text(request.text)
    option = request.data_option
    return None if option is None else read_media(option, getattr(request, option))


def _data(
    request: ReportRequest,
    given: str | Media | None,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
) -> tuple[Sequence[Batch], str]:
    """Batches of what was given, or of the sample kept with the model, and where they come from."""
    takes = modalities_of(type(model))
    examples = given.examples if isinstance(given, Media) else ()
    check_takes(request.folder, takes, request.data_option, examples, "--text")
    if given is None:
        batches = first_tokens(sample_of(model, request.folder), request.tokens, request.window)
        return batches, "the sample kept with the model"
    if isinstance(given, Media):
        processors = load_processors(request.folder, takes, request.trust)
        return media_batches(model, processors, takes, evenly(examples, request.samples), 1), given.source
    if tokenizer is None:
        raise TextError(f"{request.folder} has no tokenizer: leave out --text")
    texts = text_batches(model, tokenizer, given, request.tokens, request.window, 1)
    return [model_batch(model, batch) for batch in texts], str(request.text)


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
