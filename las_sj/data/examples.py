"""Examples: what a person gives a model to look at, to hear or to read, before a processor makes a batch of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from PIL.Image import Image

    from las_sj.data.sounds import Sound

HELD_OUT = 5  # every fifth example is kept to compare on

T = TypeVar("T")


@dataclass(frozen=True)
class Example:
    """One input of a model, read when it is needed: pictures are large.

    Attributes:
        image: a file, or the picture itself.
        sound: a file, or the sound itself.
        text: that goes with it.
    """

    image: "Path | Image | None" = None
    sound: "Path | Sound | None" = None
    text: str | None = None


def evenly(items: Sequence[T], most: int) -> list[T]:
    """Up to `most` of the items, spread evenly: sorted files come class by class, speaker by speaker."""
    count = min(most, len(items))
    return [items[number * len(items) // count] for number in range(count)]


def split_examples(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Examples to calibrate on, and every fifth to compare on; a few serve the one, the last of them the other too."""
    if len(examples) < HELD_OUT:
        return [*examples], [*examples[-1:]]
    kept = [example for number, example in enumerate(examples, 1) if number % HELD_OUT]
    return kept, [*examples[HELD_OUT - 1 :: HELD_OUT]]
