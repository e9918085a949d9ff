"""What a model takes: text, images, sound, or text with one of the others."""

import inspect
from dataclasses import dataclass
from typing import Any

OPTIONS = {"text": "--calibration FILE", "images": "--images DIR", "sound": "--audio DIR"}
PAIRS = "--pairs FILE"


class ModalityError(ValueError):
    """A model does not take what it was given; the message says what it takes."""


@dataclass(frozen=True)
class Modalities:
    """What a model is called with.

    Attributes:
        text: whether it takes tokens, those of a decoder after an encoder aside.
        images, sound: likewise.
        decoder: whether a decoder writes tokens after an encoder, which go in too.
    """

    text: bool = False
    images: bool = False
    sound: bool = False
    decoder: bool = False

    @property
    def only_text(self) -> bool:
        """Whether nothing but text goes in."""
        return self.text and not self.images and not self.sound

    @property
    def names(self) -> list[str]:
        """In words."""
        return [name for name in OPTIONS if getattr(self, name)]

    @property
    def option(self) -> str:
        """What gives a command data of this kind."""
        options = [OPTIONS[name] for name in self.names if not (name == "text" and len(self.names) > 1)]
        return " or ".join([PAIRS, *options] if self.text and len(self.names) > 1 else options)


def modalities_of(model_class: Any) -> Modalities:
    """What the models of a class take, by the arguments of its forward method and what transformers says of it.

    Args:
        model_class: of transformers.

    Raises:
        ModalityError: they take none of text, images and sound.
    """
    arguments = set(inspect.signature(model_class.forward).parameters)
    said = getattr(model_class, "input_modalities", "text")
    named = {said} if isinstance(said, str) else set(said)
    main = getattr(model_class, "main_input_name", "input_ids")
    found = Modalities(
        text="text" in named and ("input_ids" in arguments or main == "input_ids"),
        images="image" in named or (main == "pixel_values" and "video" not in named),
        sound="audio" in named or main in ("input_features", "input_values"),
        decoder="decoder_input_ids" in arguments,
    )
    if not found.names:
        raise ModalityError(
            f"{model_class.__name__} takes {' and '.join(sorted(named))}, which this command has none of: convert "
            "it in Python, with batches of its processor (las_sj.convert)"
        )
    return found
