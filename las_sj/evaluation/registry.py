"""The tasks by name."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from las_sj.data.batches import Batch
from las_sj.evaluation import classification, language, media, written, yes_no, zero_shot
from las_sj.evaluation.errors import GlueError
from las_sj.evaluation.glue import TASKS
from las_sj.evaluation.journal import Journal
from las_sj.evaluation.paired import Pair
from las_sj.evaluation.result import TaskResult
from las_sj.extras import require_extra
from las_sj.usage import UsageError

POPE = {f"pope_{kind}": f"vqa/pope/coco_pope_{kind}.json" for kind in ("random", "popular", "adversarial")}
OWN_QUESTIONS = "yes_no"


@dataclass(frozen=True)
class Task:
    """A task, its data read as far as that goes without a model.

    Attributes:
        name: of the task.
        check: raises a ValueError where a model is of the wrong kind.
        run: scores both models; None in all processes but the first.
    """

    name: str
    check: Callable[[PreTrainedModel], object]
    run: Callable[[Pair, Journal], TaskResult | None]


@dataclass(frozen=True)
class Options:
    """What an evaluation is told.

    Attributes:
        folder: of data; None reads from the hub.
        text: file for the task "text".
        questions: a file of questions.
        images: the folder of their images, or of images in folders named for their classes.
        audio: a folder of sounds.
        batch_size: rows, windows, requests or questions.
        window, stride: of texts, in tokens; a stride of None is half the window.
        limit: rows, tokens or questions, the first ones; None for all.
        seed: of the bootstrap.
    """

    folder: Path | None = None
    text: Path | None = None
    questions: Path | None = None
    images: Path | None = None
    audio: Path | None = None
    batch_size: int = 8
    window: int = 1024
    stride: int | None = None
    limit: int | None = None
    seed: int = 0


def prepare(name: str, options: Options) -> Iterator[Task]:
    """The tasks that a name stands for.

    Args:
        name: of GLUE ("SST-2"), a text ("wikitext2"), yes-no questions ("pope_random", "yes_no"), "image_classes",
            "speech", "text_to_text", or of lm-eval.
        options: as above.

    Raises:
        GlueError, TextError, YesNoError, ZeroShotError: the data cannot be read.
        UsageError: there is no such task, or an option that it needs is left out.
        MissingExtraError: what the task needs is not installed.
    """
    require_extra("evaluate", "scipy", "sklearn")
    if name in TASKS:
        yield _glue(name, options)
    elif name in language.TEXT_TASKS:
        yield _text(name, options)
    elif name == written.TEXT_TO_TEXT:
        yield _lines(options)
    elif needs_images(name):
        yield _questions(name, options)
    elif name in (media.CLASSES, media.SPEECH):
        yield _media(name, options)
    else:
        for task in zero_shot.load_tasks(name, options.folder):
            yield _zero_shot(task, options)


def calibration_of(names: Sequence[str], options: Options) -> Callable[[PreTrainedModel, Any], list[Batch] | None]:
    """What a model is calibrated on where nothing was given: unlabelled data of its first task, as far as there is any
    that is not scored; images come from the questions themselves."""

    def batches(model: PreTrainedModel, tokenizer: Any) -> list[Batch] | None:
        if names[0] in TASKS:
            return _training_rows(names[0], model, tokenizer, options)
        if needs_images(names[0]):
            questions = yes_no.read_questions(*_question_files(names[0], options), yes_no.CALIBRATION_ROWS)
            return [*yes_no.Batches(tokenizer, questions, options.batch_size, model.dtype)]
        if names[0] in (media.CLASSES, media.SPEECH):
            return [*media.calibration_files(names[0], _media_folder(names[0], options), model, tokenizer)]
        return None

    return batches


def needs_images(name: str) -> bool:
    """Whether a task asks about images."""
    return name in POPE or name == OWN_QUESTIONS


def kind_of(name: str) -> str:
    """What a task is of: "questions" about images, "images", "sound" or "text"."""
    return "questions" if needs_images(name) else {media.CLASSES: "images", media.SPEECH: "sound"}.get(name, "text")


def _training_rows(name: str, model: PreTrainedModel, tokenizer: Any, options: Options) -> list[Batch]:
    try:
        return [*classification.calibration_batches(TASKS[name], model, tokenizer, _glue_folder(options), 8)]
    except GlueError as error:
        raise GlueError(f"{error}; they calibrate the network, and so does --calibration FILE") from None


def _glue_folder(options: Options) -> Path | None:
    """The folder of GLUE: the one that was given, or glue in it."""
    if options.folder is not None and (options.folder / "glue").is_dir():
        return options.folder / "glue"
    return options.folder


def _glue(name: str, options: Options) -> Task:
    task = TASKS[name]
    rows = classification.read_rows(task, _glue_folder(options), options.limit)
    return Task(
        name,
        lambda model: classification.columns_of(model, task),
        lambda pair, journal: classification.evaluate_glue(task, pair, journal, rows, options.batch_size, options.seed),
    )


def _text(name: str, options: Options) -> Task:
    task = language.TEXT_TASKS[name]
    text = language.text_of(task, options.folder, options.text)

    def run(pair: Pair, journal: Journal) -> TaskResult:
        sizes = (options.window, options.stride, options.batch_size, options.limit)
        prepared = language.prepare_text(pair.ann, pair.tokenizer, text, *sizes)
        return language.evaluate_text(task, pair, journal, prepared, options.seed)

    return Task(name, lambda model: language.sizes_of(model, options.window, options.stride), run)


def _lines(options: Options) -> Task:
    if options.text is None:
        raise UsageError(f"{written.TEXT_TO_TEXT} needs --text FILE")
    lines, source = written.lines_of(language.read_file(options.text), options.limit), options.text.name

    def run(pair: Pair, journal: Journal) -> TaskResult:
        batches = written.LineBatches(pair, lines, options.window)
        return written.evaluate_lines(pair, journal, batches, source, options.seed)

    return Task(written.TEXT_TO_TEXT, written.check_writer, run)


def _question_files(name: str, options: Options) -> tuple[Path, Path]:
    questions = options.questions
    if questions is None and name in POPE and options.folder is not None:
        questions = options.folder / POPE[name]
    if questions is None or options.images is None:
        raise UsageError(f"{name} needs --images DIR, and --questions FILE or --data-dir with {POPE.get(name, 'it')}")
    return questions, options.images


def _questions(name: str, options: Options) -> Task:
    questions = yes_no.read_questions(*_question_files(name, options), options.limit)
    return Task(
        name,
        lambda model: None,  # takes images, as the configuration said before the model was loaded
        lambda pair, journal: yes_no.evaluate_yes_no(name, pair, journal, questions, options.batch_size, options.seed),
    )


def _media_folder(name: str, options: Options) -> Path:
    folder, option = (options.images, "--images") if name == media.CLASSES else (options.audio, "--audio")
    if folder is None:
        raise UsageError(f"{name} needs {option} DIR")
    return folder


def _media(name: str, options: Options) -> Task:
    folder = _media_folder(name, options)
    examples = media.read_files(name, folder, options.limit)

    def classes(pair: Pair, journal: Journal) -> TaskResult:
        return media.evaluate_classes(pair, journal, examples, folder, options.batch_size, options.seed)

    def speech(pair: Pair, journal: Journal) -> TaskResult:
        return media.evaluate_speech(pair, journal, examples, folder, options.seed)

    if name == media.CLASSES:
        return Task(name, media.check_classifier, classes)
    return Task(name, media.check_speech, speech)


def _zero_shot(task: Any, options: Options) -> Task:
    return Task(
        task.config.task,
        lambda model: zero_shot.check_model(model, task),
        lambda pair, journal: zero_shot.evaluate_zero_shot(
            task, pair, journal, options.batch_size, options.limit, options.seed
        ),
    )
