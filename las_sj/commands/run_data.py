"""What a converted model is run on by commands that look at it: given data, or the sample kept with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from las_sj.checkpoint.processors import load_processors
from las_sj.checkpoint.sample import sample_of
from las_sj.commands.command_line import OneLineParser, at_least
from las_sj.commands.devices import check_device_name
from las_sj.commands.media_options import add_media, add_trust, check_takes, one_of
from las_sj.conversion.media_batches import media_batches, model_batch
from las_sj.data.batches import Batch, first_tokens
from las_sj.data.examples import evenly
from las_sj.data.media import Media, read_media
from las_sj.data.modalities import modalities_of
from las_sj.data.text import TextError, read_text, text_batches

SAMPLES = 4


@dataclass(frozen=True)
class RunRequest:
    """A converted model, and what it is run on.

    Attributes:
        folder: of the model.
        text: file of text to run; the sample kept with the model, where nothing is given.
        images, audio: folders of images or sounds to run.
        pairs: file of texts with an image or a sound each to run.
        samples: images, sounds or pairs that are taken, at most.
        tokens: of the text.
        window: tokens of a sequence, at most.
        device: for the weights.
        trust: whether code that comes with the model may run.

    Raises:
        ValueError: a number is too small, there is no such device, or data of several kinds are given.
    """

    folder: Path
    text: Path | None = None
    images: Path | None = None
    audio: Path | None = None
    pairs: Path | None = None
    samples: int = SAMPLES
    tokens: int = 512
    window: int = 256
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

    def read(self) -> str | Media | None:
        """What was given, read before the model is loaded."""
        if self.text is not None:
            return read_text(self.text)
        option = self.data_option
        return None if option is None else read_media(option, getattr(self, option))

    def batches(
        self, given: str | Media | None, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None
    ) -> tuple[Sequence[Batch], str]:
        """Batches of what was given, or of the sample kept with the model, and where they come from.

        Args:
            given: as `read` returns.
            model: the converted model.
            tokenizer: of the model; None where it has none.

        Raises:
            TextError, ExampleError, SampleError: the model cannot be given it.
        """
        takes = modalities_of(type(model))
        examples = given.examples if isinstance(given, Media) else ()
        check_takes(self.folder, takes, self.data_option, examples, "--text")
        if given is None:
            batches = first_tokens(sample_of(model, self.folder), self.tokens, self.window)
            return batches, "the sample kept with the model"
        if isinstance(given, Media):
            processors = load_processors(self.folder, takes, self.trust)
            return media_batches(model, processors, takes, evenly(examples, self.samples), 1), given.source
        if tokenizer is None:
            raise TextError(f"{self.folder} has no tokenizer: leave out --text")
        texts = text_batches(model, tokenizer, given, self.tokens, self.window, 1)
        return [model_batch(model, batch) for batch in texts], str(self.text)


def add_run(parser: OneLineParser, tokens: int) -> None:
    """The model's folder and the options of what it is run on.

    Args:
        parser: of the command.
        tokens: of the text, where the command is told no other number.
    """
    parser.add_argument("folder", type=Path, metavar="DIR", help="output of las-sj convert")
    parser.add_argument("--text", type=Path, metavar="FILE", help="text to run (the sample kept with the model)")
    add_media(parser, SAMPLES)
    parser.add_argument("--tokens", type=int, metavar="N", help=f"of the text ({tokens})")
    parser.add_argument("--window", type=int, metavar="N", help="tokens per sequence, at most (256)")
    parser.add_argument("--device")
    add_trust(parser)
