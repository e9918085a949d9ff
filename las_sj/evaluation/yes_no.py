"""Questions about images that are answered by yes or no, as in POPE (arXiv 2305.10355)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch

from las_sj.checkpoint.placement import input_device
from las_sj.data.batches import to_device
from las_sj.data.text import read_lines, why
from las_sj.evaluation.counted import costs_of
from las_sj.evaluation.errors import YesNoError
from las_sj.evaluation.journal import Journal, Record
from las_sj.evaluation.paired import Pair
from las_sj.evaluation.result import Measure, TaskResult, measure
from las_sj.reasons import reason_of

PROMPT = "{question} Please answer this question with one word."
NEW_TOKENS = 8
DESCRIPTION = (
    f"answers of up to {NEW_TOKENS} greedy tokens; no where their first sentence has no or not, else yes (POPE)"
)
CALIBRATION_ROWS = 16
COLUMNS = ("image", "text", "label")
NEGATIVE = ("no", "not")


@dataclass(frozen=True)
class Question:
    """A question about an image.

    Attributes:
        image: its file.
        text: what is asked.
        yes: the right answer.
    """

    image: Path
    text: str
    yes: bool


def read_questions(file: Path, images: Path, limit: int | None = None) -> list[Question]:
    """Questions in POPE's format: a JSON object a line, with image, text and label.

    Args:
        file: of questions.
        images: the folder of their images.
        limit: the first ones; None for all.

    Raises:
        YesNoError: a line is malformed, or an image is not there.
    """
    try:
        lines = read_lines(file)
    except (OSError, UnicodeDecodeError) as error:
        raise YesNoError(f"cannot read questions from {file} ({why(error)}): give a file of JSON lines") from None
    questions: list[Question] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or (limit is not None and len(questions) == limit):
            continue
        questions.append(_question(line, f"{file}, line {number}", images))
    if not questions:
        raise YesNoError(f"{file} has no questions")
    return questions


def _question(line: str, place: str, images: Path) -> Question:
    try:
        row = json.loads(line)
        image, text, label = (row[name] for name in COLUMNS)
    except (ValueError, KeyError, TypeError):
        raise YesNoError(f"{place}: not a JSON object with {', '.join(COLUMNS)}") from None
    if label not in ("yes", "no"):
        raise YesNoError(f"{place}: label {label!r} is neither yes nor no")
    path = images / str(image)
    if not path.is_file():
        raise YesNoError(f"{place}: there is no image {path}: --images names their folder")
    return Question(path, str(text), label == "yes")


class Batches(Sequence[dict[str, torch.Tensor]]):
    """What the processor makes of the questions, with its chat template where it has one; each batch when it is asked
    for, since images are large.

    Args:
        processor: of the model.
        questions: all of them.
        size: questions of a batch.
        dtype: of the model, for the images.
    """

    def __init__(self, processor: Any, questions: Sequence[Question], size: int, dtype: torch.dtype) -> None:
        self.processor, self.dtype = processor, dtype
        self.parts = [questions[start : start + size] for start in range(0, len(questions), size)]

    def __len__(self) -> int:
        return len(self.parts)

    @overload
    def __getitem__(self, index: int) -> dict[str, torch.Tensor]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, torch.Tensor]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        images = [_image(question.image) for question in self.parts[index]]
        texts = [_prompt(self.processor, question.text) for question in self.parts[index]]
        inputs = self.processor(images=images, text=texts, padding=True, return_tensors="pt")
        return {name: part.to(self.dtype) if part.is_floating_point() else part for name, part in inputs.items()}

    def identity(self, index: int) -> list[Any]:
        """What a batch is made of, by which its record is known again."""
        settings = repr(getattr(self.processor, "image_processor", None))
        return [settings, *((question.image, _prompt(self.processor, question.text)) for question in self.parts[index])]


def _image(file: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise YesNoError(f"cannot read the image {file} ({reason_of(error)}): give another") from None


def _prompt(processor: Any, question: str) -> str:
    text = PROMPT.format(question=question)
    if not getattr(processor, "chat_template", None):
        return f"{getattr(processor, 'image_token', '<image>')}\nQuestion: {text}\nAnswer:"
    content = [{"type": "image"}, {"type": "text", "text": text}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    assert isinstance(prompt, str)
    return prompt


def says_yes(answer: str) -> bool:
    """POPE's rule: an answer means no if its first sentence has the word no or not, and yes otherwise."""
    first = answer.partition(".")[0].replace(",", " ")
    return not any(word.lower() in NEGATIVE for word in first.split())


def evaluate_yes_no(
    name: str, pair: Pair, journal: Journal, questions: Sequence[Question], batch_size: int, seed: int
) -> TaskResult:
    """Score the greedy answers of the ANN and of the SNN to yes-no questions.

    Args:
        name: of the set.
        pair: vision-language models, with their processor.
        journal: keeps finished batches.
        questions: to answer.
        batch_size: questions.
        seed: of the bootstrap.
    """
    batches = Batches(pair.tokenizer, questions, batch_size, pair.ann.dtype)

    def compute(index: int) -> Record:
        batch = batches[index]
        ann, snn, seconds = pair.each(lambda model: _answers(model, batch, pair.tokenizer))
        return {"ann": ann, "snn": snn, **seconds}

    records = journal.collect(name, [batches.identity(index) for index in range(len(batches))], compute)
    expected = np.array([question.yes for question in questions])
    ann, snn = (np.array([says_yes(text) for record in records for text in record[side]]) for side in ("ann", "snn"))
    sides = [np.stack([found, expected], 1) for found in (ann, snn)]
    costs = costs_of(pair, batches, journal, name, records)
    return TaskResult(
        task=name,
        description=DESCRIPTION,
        rows=len(questions),
        unit="questions",
        measures=list(_measures(sides, seed)),
        agreement=float((ann == snn).mean()),
        **costs,
    )


def _answers(model: Any, batch: dict[str, torch.Tensor], processor: Any) -> list[str]:
    inputs = to_device(batch, input_device(model))
    tokens = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
    new = tokens[:, inputs["input_ids"].shape[1] :]
    answers: list[str] = processor.batch_decode(new, skip_special_tokens=True)
    return answers


def _measures(sides: Sequence[np.ndarray], seed: int) -> list[Measure]:
    from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

    def scored(function: Any, **options: Any) -> Any:
        return lambda rows: float(function(rows[:, 1], rows[:, 0], **options))

    scores = {
        "accuracy": scored(accuracy_score),
        "precision": scored(precision_score, zero_division=0.0),
        "recall": scored(recall_score, zero_division=0.0),
        "F1": scored(f1_score, zero_division=0.0),
        "share of yes": lambda rows: float(rows[:, 0].mean()),
    }
    return [measure(name, score, sides, seed) for name, score in scores.items()]
