"""Images, alone and within a text, in the shapes in which models take them."""

from collections.abc import Callable, Iterator

import torch
from transformers import PreTrainedConfig

from every_type.batches import ROWS, TOKENS, Batch, Inputs, arguments_of, around, decoder_text, noise, ones, random_ids
from every_type.configurations import option, parts_of
from every_type.sizes import IMAGE_SIZE, PATCH
from every_type.weights import Model

IMAGES, IMAGES_AND_TEXT = "images", "images and text"
_GRID = 4  # patches along a side of an image that comes as a row of patches


def image_inputs(model: Model) -> Iterator[Inputs]:
    """For a model that takes images alone; ImageGPT takes them as tokens."""
    arguments, config = arguments_of(model), model.config
    channels = option(config, "num_channels", "in_channels", "in_chans", default=3)
    own = _side(option(config, "image_size", "input_size", "crop_size"))
    if "spatial_shapes" in arguments:
        yield Inputs(IMAGES, _flat_patches)
    if "inputs" in arguments:
        yield Inputs(IMAGES, lambda seed: {"inputs": noise(ROWS, channels, own, own, seed=seed)})
    for size in dict.fromkeys((own, 32, 64, 224)):
        yield Inputs(IMAGES, lambda seed, size=size: {"pixel_values": noise(ROWS, channels, size, size, seed=seed)})  # type: ignore[misc]
    if "input_ids" in arguments:
        yield Inputs(IMAGES, lambda seed: {"input_ids": random_ids(16, seed)})


def _flat_patches(seed: int) -> Batch:
    patches = _GRID**2
    return {
        "pixel_values": noise(ROWS, patches, 3 * PATCH**2, seed=seed),
        "pixel_attention_mask": ones(ROWS, patches),
        "spatial_shapes": torch.tensor([[_GRID, _GRID]] * ROWS),
    }


def image_text_inputs(model: Model) -> Iterator[Inputs]:
    """For a model that takes images and a text; the number of tokens for each image is tried."""
    arguments, vision = arguments_of(model), vision_of(model.config)
    if "image_grid_thw" in arguments:
        yield from _rows_of_patches(model, vision)
    if "pixel_values" in arguments:
        yield from _pixels(model, vision)
    if "flattened_patches" in arguments:
        width = getattr(vision, "patch_embed_hidden_size", 3 * PATCH**2)
        yield Inputs(
            IMAGES_AND_TEXT,
            lambda seed: {"flattened_patches": noise(ROWS, 16, 2 + width, seed=seed).abs()} | decoder_text(model, seed),
        )


def image_token_of(config: PreTrainedConfig) -> int | None:
    """The token that marks a place of an image in a text."""
    return option(config, "image_token_id", "image_token_index", "image_patch_id", "video_token_index")


def vision_of(config: PreTrainedConfig) -> PreTrainedConfig:
    """The part of a configuration that describes the tower for images, or the whole."""
    names = ("encoder", "vq_config")
    return next((part for name, part in parts_of(config) if "vision" in name or name in names), config)


def within_text(model: Model, count: int, values: Callable[[int], Batch]) -> Inputs:
    """A text with `count` tokens for each image.

    Args:
        model: that takes them.
        count: of tokens for an image.
        values: makes the images from a seed.
    """
    token = image_token_of(model.config)
    return Inputs(
        IMAGES_AND_TEXT,
        lambda seed: around(model, token, count, seed) | values(seed) | _question(model, seed),
        lambda other: within_text(model, other, values),
    )


def _question(model: Model, seed: int) -> Batch:
    if "qformer_input_ids" not in arguments_of(model):
        return {}
    return {"qformer_input_ids": random_ids(TOKENS // 2, seed)}


def _rows_of_patches(model: Model, vision: PreTrainedConfig) -> Iterator[Inputs]:
    patch, channels = _side(getattr(vision, "patch_size", PATCH), PATCH), _channels(vision)
    merged = (getattr(vision, "spatial_merge_size", 2) or 1) ** 2
    for frames in dict.fromkeys((getattr(vision, "temporal_patch_size", 1) or 1, 1, 2)):
        width = channels * frames * patch**2

        def values(seed: int, width: int = width) -> Batch:
            grid = torch.tensor([[1, _GRID, _GRID]] * ROWS)
            return {"pixel_values": noise(ROWS * _GRID**2, width, seed=seed), "image_grid_thw": grid}

        yield within_text(model, _GRID**2 // merged, values)


def _pixels(model: Model, vision: PreTrainedConfig) -> Iterator[Inputs]:
    """Images as [B, C, H, W], as [B, 1, C, H, W] and as three crops, with the sizes that some models ask for."""
    size = _side(getattr(vision, "image_size", None) or getattr(model.config, "image_size", None))
    patches = size // _side(getattr(vision, "patch_size", PATCH), PATCH)
    counts = (patches**2, patches**2 // 4, patches**2 + 1, patches**2 // 16, 8)
    sizes: dict[str, Batch] = {
        "pixel_values": {},
        "image_sizes": {"image_sizes": torch.tensor([[size, size]] * ROWS)},
        "image_grid_hws": {"image_grid_hws": torch.tensor([[patches, patches]] * ROWS)},
    }
    for told in (told for name, told in sizes.items() if name in arguments_of(model)):
        for crops in (None, 1, 3):
            for count in counts:
                values = _images(told, crops, _channels(vision), size)
                yield within_text(model, count, values)


def _images(told: Batch, crops: int | None, channels: int, size: int) -> Callable[[int], Batch]:
    leading = (ROWS,) if crops is None else (ROWS, crops)
    return lambda seed: {"pixel_values": noise(*leading, channels, size, size, seed=seed)} | told


def _channels(vision: PreTrainedConfig) -> int:
    return getattr(vision, "num_channels", getattr(vision, "in_channels", 3)) or 3


def _side(value: object, default: int = IMAGE_SIZE) -> int:
    """One side of what may be given as two."""
    if isinstance(value, list | tuple) and value:
        return int(value[0])
    return value if isinstance(value, int) else default
