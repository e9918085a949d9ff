"""Noise in the place of data that nobody gave: pictures of coloured squares, bursts of noise, random tokens."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from las_sj.data.examples import Example
from las_sj.data.modalities import Modalities
from las_sj.data.processors import Processors
from las_sj.data.sounds import Sound

if TYPE_CHECKING:
    from PIL.Image import Image

SIZE = 256  # pixels a side
SQUARES = (4, 16, 64)  # a side: processors shrink pictures, and fine noise would become grey
SECONDS = 2
TOKENS = 12


def noise_image(generator: np.random.Generator, number: int) -> "Image":
    """A picture of random colours, coarser or finer by its number."""
    from PIL import Image

    squares = SQUARES[number % len(SQUARES)]
    colours = generator.integers(256, size=(squares, squares, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((SIZE, SIZE), Image.Resampling.NEAREST)


def noise_sound(generator: np.random.Generator, rate: int) -> Sound:
    """Two seconds of normal noise that swells and fades."""
    time = np.linspace(0, 1, SECONDS * rate, dtype=np.float32)
    loudness = 0.25 * np.sin(np.pi * time * generator.integers(1, 6)) ** 2
    return Sound((loudness * generator.standard_normal(len(time))).clip(-1, 1).astype(np.float32), rate)


def random_text(generator: np.random.Generator, tokenizer: Any) -> str:
    """A text of random tokens, none of them special."""
    special = set(tokenizer.all_special_ids)
    known: Sequence[int] = [number for number in range(len(tokenizer)) if number not in special]
    text = str(tokenizer.decode(generator.choice(known, TOKENS).tolist())).strip()
    return text or "text"


def noise_examples(takes: Modalities, processors: Processors, count: int, seed: int) -> list[Example]:
    """Examples of noise, the same in every run.

    Args:
        takes: what the model takes.
        processors: of the model.
        count: of the examples.
        seed: of the noise.
    """
    generator = np.random.default_rng(seed)
    return [_noise_example(takes, processors, generator, number) for number in range(count)]


def _noise_example(takes: Modalities, processors: Processors, generator: np.random.Generator, number: int) -> Example:
    """An image, or else a sound; with a text where the model takes one."""
    text = random_text(generator, processors.pairs.tokenizer) if takes.text else None
    if takes.images:
        return Example(image=noise_image(generator, number), text=text)
    return Example(sound=noise_sound(generator, processors.rate), text=text)


def in_words(takes: Modalities) -> str:
    """What is generated for a model, in words."""
    if takes.only_text:
        return "text that the model generates itself, or random tokens"
    return ("images of noise" if takes.images else "bursts of noise") + (" with random text" if takes.text else "")
