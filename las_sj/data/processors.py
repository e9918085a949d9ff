"""What turns examples into batches: the processors that a model comes with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Processors:
    """Processors of a model, those that it has a use for.

    Attributes:
        tokenizer: of texts.
        images: of images alone.
        sound: extracts the features of sounds.
        pairs: of texts with images or sounds; holds the others.
    """

    tokenizer: Any = None
    images: Any = None
    sound: Any = None
    pairs: Any = None

    def save(self, folder: Path) -> None:
        """Write them, as transformers reads them."""
        for part in (self.tokenizer, self.images, self.sound, self.pairs):
            if part is not None:
                part.save_pretrained(folder)

    @property
    def rate(self) -> int:
        """Samples of sound a second."""
        extractor = self.sound or getattr(self.pairs, "feature_extractor", None)
        return int(getattr(extractor, "sampling_rate", 16_000))
