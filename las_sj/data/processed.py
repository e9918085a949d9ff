"""Batches of examples, as a model's own processors make them."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from las_sj.data.example_error import ExampleError
from las_sj.data.examples import Example
from las_sj.data.images import read_image
from las_sj.data.modalities import Modalities
from las_sj.data.processors import Processors
from las_sj.data.sounds import read_sound
from las_sj.reasons import reason_of

QUESTION = "What is this?"  # beside an image or a sound that comes without a text


def processed_batches(
    processors: Processors, takes: Modalities, examples: Sequence[Example], batch_size: int
) -> list[dict[str, Tensor]]:
    """Examples as the model is called with them.

    Images alone come `batch_size` at a time. Sounds, and images with text, come one at a time: they have lengths and
    sizes of their own.

    Args:
        processors: of the model.
        takes: what the model takes.
        examples: at least one.
        batch_size: images of a batch.

    Raises:
        ExampleError: a file cannot be read, or a processor does not take what is in it.
    """
    size = batch_size if takes.images and not takes.text else 1
    parts = [examples[start : start + size] for start in range(0, len(examples), size)]
    return [_processed(processors, takes, part) for part in parts]


def _processed(processors: Processors, takes: Modalities, examples: Sequence[Example]) -> dict[str, Tensor]:
    inputs = _inputs(processors, takes, examples)
    try:
        if takes.text:
            output = processors.pairs(**inputs, return_tensors="pt")
        elif takes.images:
            output = processors.images(**inputs, return_tensors="pt")
        else:
            output = processors.sound(inputs["audio"][0], sampling_rate=processors.rate, return_tensors="pt")
    except Exception as error:  # processors raise whatever they come upon
        named = [str(file) for example in examples for file in (example.image, example.sound) if isinstance(file, Path)]
        raise ExampleError(
            f"the processor of the model does not take {', '.join(named) or 'noise'} ({reason_of(error)}): give "
            "others, or give fewer at a time (--batch-size 1)"
        ) from error
    return {name: value for name, value in output.items() if isinstance(value, Tensor)}


def _inputs(processors: Processors, takes: Modalities, examples: Sequence[Example]) -> dict[str, Any]:
    """Arguments of a processor."""
    inputs: dict[str, Any] = {}
    if takes.images and examples[0].image is not None:
        pictures = [read_image(it.image) if isinstance(it.image, Path) else it.image for it in examples]
        inputs["images"] = pictures
    if takes.sound and examples[0].sound is not None:
        sounds = [read_sound(it.sound) if isinstance(it.sound, Path) else it.sound for it in examples]
        inputs["audio"] = [sound.at(processors.rate) for sound in sounds if sound is not None]
    if takes.text:
        inputs["text"] = [prompt(processors.pairs, it.text or QUESTION, _kind(it)) for it in examples]
    return inputs


def _kind(example: Example) -> str:
    return "image" if example.image is not None else "audio"


def prompt(processor: Any, text: str, kind: str) -> str:
    """A text with the place of an image or a sound in it, by the processor's chat template where it has one.

    Args:
        processor: of texts with images or sounds.
        text: returned as it is, where it holds such a place.
        kind: "image" or "audio".
    """
    token = getattr(processor, f"{kind}_token", None)
    if token is not None and str(token) in text:
        return text
    if getattr(processor, "chat_template", None):
        content = [{"type": kind}, {"type": "text", "text": text}]
        filled = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        assert isinstance(filled, str)
        return filled
    return text if token is None else f"{token}\n{text}"


def accepted(model_class: Any, batch: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """What a model takes of a batch, floats in its precision: some tokenizers and processors return more."""
    parameters = inspect.signature(model_class.forward).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in batch.items()
        if takes_all or name in parameters
    }
