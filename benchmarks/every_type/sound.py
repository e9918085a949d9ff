"""Sounds, as waves and as spectrograms, alone and within a text."""

from collections.abc import Callable, Iterator

from every_type.batches import ROWS, TOKENS, Batch, Inputs, arguments_of, around, decoder_text, noise, ones, random_ids
from every_type.configurations import option
from every_type.weights import Model

SOUND, SOUND_AND_TEXT = "sound", "sound and text"
_BINS = (
    "num_mel_bins",
    "input_feat_per_channel",
    "n_mels",
    "mel_bins",
    "feature_projection_input_dim",
    "feature_size",
    "num_mels",
    "input_dim",
)
_MASKS = ("input_features_mask", "feature_attention_mask")
_SAMPLES = 4000


def sound_inputs(model: Model) -> Iterator[Inputs]:
    """For a model that takes sound; a spectrogram has time in either of its axes."""
    arguments = arguments_of(model)
    bins = option(model.config, *_BINS, default=16)
    if "input_features" in arguments:
        for frames in (64, 128, 200, 256, 3000):
            for shape in ((ROWS, bins, frames), (ROWS, frames, bins)):
                yield from _spectrogram(model, shape, frames)
    if "input_values" in arguments:
        yield from with_sound(model, lambda seed: {"input_values": noise(ROWS, _SAMPLES, seed=seed)})
        yield from with_sound(model, lambda seed: {"input_values": noise(ROWS, 1, _SAMPLES, seed=seed)})
        yield from with_sound(model, lambda seed: {"input_values": noise(ROWS, 64, bins, seed=seed)})


def _spectrogram(model: Model, shape: tuple[int, ...], frames: int) -> Iterator[Inputs]:
    masks: Batch = {name: ones(ROWS, frames) for name in _MASKS if name in arguments_of(model)}
    yield from with_sound(model, lambda seed: {"input_features": noise(*shape, seed=seed)} | masks)


def with_sound(model: Model, values: Callable[[int], Batch]) -> Iterator[Inputs]:
    """Sounds, within a text where the model takes both.

    Args:
        model: that takes them.
        values: makes the sounds from a seed.
    """
    if "input_ids" in arguments_of(model) and "decoder_input_ids" not in arguments_of(model):
        yield _within_text(model, 8, values)
    yield Inputs(SOUND, lambda seed: values(seed) | decoder_text(model, seed))


def _within_text(model: Model, count: int, values: Callable[[int], Batch]) -> Inputs:
    token = option(model.config, "audio_token_id", "audio_token_index")
    return Inputs(
        SOUND_AND_TEXT,
        lambda seed: (around(model, token, count, seed) if token is not None else _plain(seed)) | values(seed),
        lambda other: _within_text(model, other, values),
    )


def _plain(seed: int) -> Batch:
    return {"input_ids": random_ids(TOKENS, seed)}
