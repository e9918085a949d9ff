"""What a conversion is calibrated and compared on: data that were given, or generated ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel

from las_sj.checkpoint.loading import default_model
from las_sj.commands.convert_request import ConvertRequest
from las_sj.conversion.calibration_data import generated_batches
from las_sj.conversion.media_batches import media_batches, model_batch
from las_sj.data.examples import Example, evenly, split_examples
from las_sj.data.media import read_media
from las_sj.data.modalities import Modalities
from las_sj.data.noise import in_words, noise_examples
from las_sj.data.processed import QUESTION
from las_sj.data.processors import Processors
from las_sj.data.text import TextBatch, read_text, split_held_out, text_batches

NOUNS = {"images": "images", "audio": "sounds", "pairs": "pairs"}


@dataclass(frozen=True)
class Given:
    """What was given.

    Attributes:
        calibration, evaluation: texts; or images, sounds or pairs.
        source: where each comes from.
    """

    calibration: str | Sequence[Example]
    evaluation: str | Sequence[Example]
    source: dict[str, str]

    @property
    def examples(self) -> list[Example]:
        """Images, sounds or pairs among them."""
        return [part for side in (self.calibration, self.evaluation) if not isinstance(side, str) for part in side]


@dataclass(frozen=True)
class Data:
    """What the models are called with.

    Attributes:
        calibration, evaluation: batches.
        source: where each comes from.
    """

    calibration: Sequence[TextBatch]
    evaluation: Sequence[TextBatch]
    source: dict[str, str]


def read_data(request: ConvertRequest) -> Given | None:
    """The data of a conversion, read before the model is loaded, so that a wrong path is found at once.

    Returns:
        None where none are given, and they have to be generated.

    Raises:
        TextError, ExampleError: a file cannot be used.
    """
    if request.data_option not in (None, "calibration"):
        return _read_media(request, request.data_option)
    calibration, evaluation = request.calibration, request.evaluation
    if request.model is None:
        calibration = calibration or default_model() / "calibration.txt"
        evaluation = evaluation or default_model() / "evaluation.txt"
    if calibration is None:
        return None
    text = read_text(calibration)
    parts = (text, read_text(evaluation)) if evaluation is not None else split_held_out(text)
    return Given(*parts, _sources(request))


def _sources(request: ConvertRequest) -> dict[str, str]:
    own = "the default model's held-out text" if request.model is None else None
    held_out = f"the last part of {request.calibration}"
    return {
        "calibration": str(request.calibration or own),
        "evaluation": str(request.evaluation or own or held_out),
    }


def _read_media(request: ConvertRequest, kind: str) -> Given:
    media = read_media(kind, getattr(request, kind))
    taken = evenly(media.examples, request.samples)
    if request.evaluation is None:
        calibration, evaluation = split_examples(taken)
        held_out = "others of these" if len(calibration) < len(taken) else "the last of these"
    else:
        others = read_media(kind, request.evaluation)
        calibration, evaluation, held_out = taken, evenly(others.examples, request.samples), others.source
    amounts = f"{len(calibration)} of the {NOUNS[kind]} in {media.source}", f"{len(evaluation)}, {held_out}"
    return Given(calibration, evaluation, dict(zip(("calibration", "evaluation"), amounts, strict=True)))


def prepare_data(
    request: ConvertRequest, given: Given | None, takes: Modalities, model: PreTrainedModel, processors: Processors
) -> Data:
    """Batches of what was given, or of what is generated.

    Args:
        request: says how much, how long and how much at a time.
        given: as `read_data` returns.
        takes: what the model takes.
        model: to convert.
        processors: of the model.

    Raises:
        TextError: a text is too short, or the tokenizer is not that of the model.
        ExampleError: an image or a sound cannot be used.
    """
    if given is None:
        return _generated(request, takes, model, processors)

    def batches(data: str | Sequence[Example], tokens: int) -> list[TextBatch]:
        if not isinstance(data, str):
            return media_batches(model, processors, takes, data, request.batch_size)
        found = text_batches(model, processors.tokenizer, data, tokens, request.window, request.batch_size)
        return [model_batch(model, batch) for batch in found]

    source = dict(given.source)
    if takes.text and any(example.text is None for example in given.examples):
        source["calibration"] += f', each with the text "{QUESTION}"'
    calibration = batches(given.calibration, request.calibration_tokens)
    return Data(calibration, batches(given.evaluation, request.evaluation_tokens), source)


def _generated(request: ConvertRequest, takes: Modalities, model: PreTrainedModel, processors: Processors) -> Data:
    seed = request.config.seed
    source = {"calibration": f"none given: {in_words(takes)}", "evaluation": "likewise"}
    if takes.only_text:
        texts = generated_batches(model, seed), generated_batches(model, seed + 1, batches=2)
        return Data(*([model_batch(model, batch) for batch in batches] for batches in texts), source)
    parts = split_examples(noise_examples(takes, processors, request.samples, seed))
    return Data(*(media_batches(model, processors, takes, part, request.batch_size) for part in parts), source)
