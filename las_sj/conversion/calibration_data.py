"""Calibration data for a model that comes without any: text that it generates itself, random tokens, or noise."""

import torch
from torch import Tensor
from transformers import GenerationMixin, PreTrainedModel

from las_sj.checkpoint.placement import input_device
from las_sj.conversion.calibration import CalibrationError
from las_sj.conversion.decoder_inputs import with_decoder_inputs
from las_sj.data.modalities import modalities_of
from las_sj.data.text import is_language_model, longest_sequence

ROWS = 4  # of a batch
NEEDS_DATA = "needs calibration data: batches of what its processor returns"
PROMPT_TOKENS = 4


def generated_batches(
    model: PreTrainedModel, seed: int, batches: int = 4, length: int = 128
) -> list[dict[str, Tensor]]:
    """Calibration data for a model without any: random tokens, continued by the model itself if it is one of language.

    A model of images or of sound gets noise, and a decoder after an encoder what the model writes.

    Raises:
        CalibrationError: a model that takes images or sound and text, which must be given.
    """
    generator = torch.Generator().manual_seed(seed)
    takes = modalities_of(type(model))
    if not takes.only_text:
        make = generated_images if takes.images else generated_sounds
        return [with_decoder_inputs(model, batch, None) for batch in make(model, generator, batches)]
    vocabulary = model.config.get_text_config().vocab_size
    length = min(length, longest_sequence(model.config) or length)
    data = []
    for _ in range(batches):
        tokens = torch.randint(vocabulary, (ROWS, length), generator=generator)
        if is_language_model(model):
            tokens = _continue(model, tokens[:, :PROMPT_TOKENS], length)
        data.append(with_decoder_inputs(model, {"input_ids": tokens}, None))
    return data


def generated_images(model: PreTrainedModel, generator: torch.Generator, batches: int) -> list[dict[str, Tensor]]:
    """Images of normal noise, as processors scale them.

    Raises:
        CalibrationError: a model that takes text too, or whose configuration says no size of its images.
    """
    config = model.config
    if modalities_of(type(model)).text or not isinstance(getattr(config, "image_size", None), int):
        raise CalibrationError(f"{type(model).__name__} {NEEDS_DATA}")
    shape = (ROWS, config.num_channels, config.image_size, config.image_size)
    return [{"pixel_values": torch.randn(shape, generator=generator)} for _ in range(batches)]


def generated_sounds(model: PreTrainedModel, generator: torch.Generator, batches: int) -> list[dict[str, Tensor]]:
    """Normal noise: a second of sound, or features of as many frames as the encoder takes.

    Raises:
        CalibrationError: a model that takes text too, or whose configuration says no number of frames.
    """
    config, name = model.config, model.main_input_name
    bands, frames = getattr(config, "num_mel_bins", None), getattr(config, "max_source_positions", None)
    if not modalities_of(type(model)).text and name == "input_values":
        shape: tuple[int, ...] = (ROWS, 16_000)
    elif name == "input_features" and config.model_type == "whisper" and bands and frames:
        shape = (1, bands, 2 * frames)  # two of which become one position
    else:
        raise CalibrationError(f"{type(model).__name__} {NEEDS_DATA}")
    return [{name: torch.randn(shape, generator=generator)} for _ in range(batches)]


@torch.no_grad()
def _continue(model: PreTrainedModel, tokens: Tensor, length: int) -> Tensor:
    """Sample text of a fixed length, without end-of-text, from the uncoded model's own distribution."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(tokens.sum()))
        output = GenerationMixin.generate(
            model,  # type: ignore[arg-type]
            tokens.to(input_device(model)),
            attention_mask=torch.ones_like(tokens).to(input_device(model)),
            do_sample=True,
            top_k=0,
            min_length=length,
            max_length=length,
            pad_token_id=0,
        )
    assert isinstance(output, Tensor)
    return output.cpu()
