"""Images, sounds or pairs that somebody names: a folder or a file, and what is in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from las_sj.data.examples import Example
from las_sj.data.media_files import IMAGES, SOUNDS, files_in
from las_sj.data.pairs import read_pairs


@dataclass(frozen=True)
class Media:
    """Images, sounds or pairs.

    Attributes:
        source: where they come from, in words.
        examples: at least one.
    """

    source: str
    examples: Sequence[Example]


def read_media(kind: str, path: Path) -> Media:
    """What a folder or a file holds, as far as it can be read without a model.

    Args:
        kind: "images", "audio" or "pairs".
        path: a folder; a file of pairs.

    Raises:
        ExampleError: there is nothing of the kind.
    """
    if kind == "images":
        return Media(str(path), [Example(image=file) for file in files_in(path, IMAGES, "images")])
    if kind == "audio":
        return Media(str(path), [Example(sound=file) for file in files_in(path, SOUNDS, "sounds")])
    return Media(str(path), read_pairs(path))
