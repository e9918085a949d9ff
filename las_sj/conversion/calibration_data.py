"""Calibration data for a model that comes without any: text that it generates itself, random tokens, or noise."""

import torch
from torch import Tensor
from transformers import GenerationMixin, PreTrainedModel

from las_sj.checkpoint.placement import input_device
from las_sj.conversion.calibration import CalibrationError
from las_sj.data.text import longest_sequence

ROWS = 4  # of a batch
PROMPT_TOKENS = 4


def generated_batches(
    model: PreTrainedModel, seed: int, batches: int = 4, length: int = 128
) -> list[dict[str, Tensor]]:
    """Calibration data for a model without any: random tokens, continued by the model itself if it can generate.

    A vision model gets images of noise.

    Raises:
        CalibrationError: a model that takes images and text, which must be given.
    """
    generator = torch.Generator().manual_seed(seed)
    if "image" in getattr(model, "input_modalities", ("text",)):
        return generated_images(model, generator, batches)
    vocabulary = model.config.get_text_config().vocab_size
    length = min(length, longest_sequence(model.config) or length)
    data = []
    for _ in range(batches):
        tokens = torch.randint(vocabulary, (ROWS, length), generator=generator)
        if model.can_generate():
            tokens = _continue(model, tokens[:, :PROMPT_TOKENS], length)
        data.append({"input_ids": tokens})
    return data


def generated_images(model: PreTrainedModel, generator: torch.Generator, batches: int) -> list[dict[str, Tensor]]:
    """Images of normal noise, as processors scale them.

    Raises:
        CalibrationError: a model that takes text too, or whose configuration says no size of its images.
    """
    config = model.config
    if "text" in model.input_modalities or not isinstance(getattr(config, "image_size", None), int):
        raise CalibrationError(f"{type(model).__name__} needs calibration data: batches of what its processor returns")
    shape = (ROWS, config.num_channels, config.image_size, config.image_size)
    return [{"pixel_values": torch.randn(shape, generator=generator)} for _ in range(batches)]


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
