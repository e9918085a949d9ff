"""Classes of images, and tokens of speech: ANN beside SNN on a folder of files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from torch import Tensor

from las_sj.conversion.media_batches import media_batches
from las_sj.data.batches import Batch
from las_sj.data.examples import Example, evenly
from las_sj.data.media import read_media
from las_sj.data.modalities import modalities_of
from las_sj.evaluation.counted import costs_of
from las_sj.evaluation.errors import MediaTaskError
from las_sj.evaluation.journal import Journal, Record
from las_sj.evaluation.paired import Pair
from las_sj.evaluation.result import TaskResult, measure
from las_sj.evaluation.written import evaluate_written
from las_sj.models.heads import classifies_inputs, transcribes_frames

CLASSES, SPEECH = "image_classes", "speech"
CALIBRATION_FILES = 16


def read_files(name: str, folder: Path, limit: int | None) -> list[Example]:
    """The files of a task, spread evenly over the folder where there are more than `limit`.

    Args:
        name: of the task.
        folder: of images in folders named for their classes, or of sounds.
        limit: None for all.

    Raises:
        ExampleError: there are none.
    """
    examples = read_media("images" if name == CLASSES else "audio", folder).examples
    return evenly(examples, limit or len(examples))


def calibration_files(name: str, folder: Path, model: Any, processors: Any) -> list[dict[str, Tensor]]:
    """Batches of some of the files, without their labels.

    Args:
        name: of the task.
        folder: of the files.
        model: to calibrate.
        processors: of the model.
    """
    examples = read_files(name, folder, CALIBRATION_FILES)
    return media_batches(model, processors, modalities_of(type(model)), examples, 1)


class FileBatches(Sequence[Batch]):
    """What the processors make of files; each batch when it is asked for, since images are large.

    Args:
        pair: models, with their processors.
        examples: all of them.
        size: files of a batch.
    """

    def __init__(self, pair: Pair, examples: Sequence[Example], size: int) -> None:
        self.pair, self.takes = pair, modalities_of(type(pair.ann))
        size = size if self.takes.images else 1
        self.parts = [examples[start : start + size] for start in range(0, len(examples), size)]

    def __len__(self) -> int:
        return len(self.parts)

    @overload
    def __getitem__(self, index: int) -> Batch: ...
    @overload
    def __getitem__(self, index: slice) -> list[Batch]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        part = self.parts[index]
        (batch,) = media_batches(self.pair.ann, self.pair.tokenizer, self.takes, part, len(part))
        return batch

    @property
    def identities(self) -> list[list[Any]]:
        """What each batch is made of, by which its record is known again."""
        settings = repr(self.pair.tokenizer.images or self.pair.tokenizer.sound)
        return [[settings, *(example.image or example.sound for example in part)] for part in self.parts]


def labels_of(model: Any, examples: Sequence[Example], folder: Path) -> list[int]:
    """The classes of images: by the names of the folders that they lie in.

    Args:
        model: a classifier.
        examples: of images.
        folder: with a folder for each class.

    Raises:
        MediaTaskError: an image lies in none, or the model does not know its class.
    """
    known = {_plain(str(name)): int(number) for number, name in (model.config.id2label or {}).items()}
    labels = []
    for example in examples:
        assert isinstance(example.image, Path)
        name = _plain(example.image.relative_to(folder).parts[0]) if example.image.parent != folder else ""
        if not name:
            raise MediaTaskError(f"{example.image} lies in no folder of its class: give {folder} one for each class")
        if name not in known:
            raise MediaTaskError(
                f"the model knows no class {example.image.relative_to(folder).parts[0]!r}, for which a folder in "
                f"{folder} is named; it knows {', '.join([*known][:5])}{', …' if len(known) > 5 else ''}"
            )
        labels.append(known[name])
    return labels


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ").replace("-", " ")


def check_classifier(model: Any) -> None:
    """Raise a MediaTaskError where a model does not classify images."""
    if not (classifies_inputs(model) and modalities_of(type(model)).images):
        raise MediaTaskError(f"{type(model).__name__} does not classify images, as {CLASSES} needs")


def check_speech(model: Any) -> None:
    """Raise a MediaTaskError where a model does not write down speech."""
    if not (transcribes_frames(model) or model.can_generate()):
        raise MediaTaskError(f"{type(model).__name__} does not write down speech, as {SPEECH} needs")


def evaluate_classes(
    pair: Pair, journal: Journal, examples: Sequence[Example], folder: Path, batch_size: int, seed: int
) -> TaskResult:
    """Score the classes that both models give to images.

    Args:
        pair: classifiers, with their processors.
        journal: keeps finished batches.
        examples: as `read_files` returns.
        folder: with a folder for each class.
        batch_size: images.
        seed: of the bootstrap.
    """
    labels = labels_of(pair.ann, examples, folder)
    batches = FileBatches(pair, examples, batch_size)

    def compute(index: int) -> Record:
        ann, snn, seconds = pair.run(batches[index])
        return {"ann": ann.logits.argmax(-1).tolist(), "snn": snn.logits.argmax(-1).tolist(), **seconds}

    records = journal.collect(CLASSES, batches.identities, compute)
    ann, snn = (np.array([value for record in records for value in record[side]]) for side in ("ann", "snn"))
    sides = [np.stack([found, labels], 1) for found in (ann, snn)]
    return TaskResult(
        task=CLASSES,
        description=f"images of {folder}, the names of its folders are their classes",
        rows=len(examples),
        unit="images",
        measures=[measure("accuracy", lambda rows: float((rows[:, 0] == rows[:, 1]).mean()), sides, seed)],
        agreement=float((ann == snn).mean()),
        **costs_of(pair, batches, journal, CLASSES, records),
    )


def evaluate_speech(pair: Pair, journal: Journal, examples: Sequence[Example], folder: Path, seed: int) -> TaskResult:
    """Compare the tokens that both models, each by itself, write down of speech.

    Args:
        pair: models of speech, with their processors.
        journal: keeps finished batches.
        examples: as `read_files` returns.
        folder: of the sounds.
        seed: of the bootstrap.
    """
    batches = FileBatches(pair, examples, 1)
    return evaluate_written(SPEECH, f"sounds of {folder}", "sounds", pair, journal, batches, seed)
