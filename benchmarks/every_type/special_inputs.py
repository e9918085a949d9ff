"""Inputs of model types that take what no other takes."""

from collections.abc import Callable, Iterator

import torch
from transformers.modeling_outputs import MoeCausalLMOutputWithPast

from every_type.batches import ROWS, TOKENS, Batch, Inputs, decoder_text, noise, ones, random_ids
from every_type.configurations import option
from every_type.images import IMAGES_AND_TEXT, within_text
from every_type.sizes import IMAGE_SIZE, PATCH
from every_type.sound import SOUND, SOUND_AND_TEXT, with_sound
from every_type.weights import Model

Maker = Callable[[Model], Iterator[Inputs]]

_MAKERS: dict[tuple[str, str], Maker] = {}
_SIDE = 4  # patches along a side of an image that comes as a row of patches


def inputs_for(mapping: str, *types: str) -> Callable[[Maker], Maker]:
    """Register what makes the inputs of some model types in a mapping."""

    def register(maker: Maker) -> Maker:
        _MAKERS.update({(mapping, model_type): maker for model_type in types})
        return maker

    return register


def special_inputs(model: Model, mapping: str) -> Iterator[Inputs]:
    """The registered inputs of a model; none for most types."""
    maker = _MAKERS.get((mapping, model.config.model_type))
    if maker is not None:
        yield from maker(model)


def _patches(seed: int) -> Batch:
    return {"pixel_values": noise(ROWS, _SIDE**2, 3 * PATCH**2, seed=seed)}


def _image(seed: int) -> Batch:
    return {"pixel_values": noise(ROWS, 3, IMAGE_SIZE, IMAGE_SIZE, seed=seed)}


@inputs_for("image-text", "lfm2_vl")
def _patches_with_shapes(model: Model) -> Iterator[Inputs]:
    told = {"spatial_shapes": torch.tensor([[_SIDE, _SIDE]] * ROWS), "pixel_attention_mask": ones(ROWS, _SIDE**2)}
    yield within_text(model, _SIDE, lambda seed: _patches(seed) | told)


@inputs_for("image-text", "fuyu")
def _patches_alone(model: Model) -> Iterator[Inputs]:
    yield within_text(model, _SIDE**2, _patches)


@inputs_for("image-text", "gemma4", "diffusion_gemma")
def _patches_with_positions(model: Model) -> Iterator[Inputs]:
    yield within_text(model, _SIDE, lambda seed: _patches(seed) | _positions())


@inputs_for("image-text", "gemma4_unified")
def _wide_patches_with_positions(model: Model) -> Iterator[Inputs]:
    shape = (ROWS, _SIDE**2, 3 * (2 * PATCH) ** 2)
    yield within_text(model, _SIDE**2, lambda seed: {"pixel_values": noise(*shape, seed=seed)} | _positions())


def _positions() -> Batch:
    axis = torch.arange(_SIDE)
    return {"image_position_ids": torch.cartesian_prod(axis, axis).flip(-1).expand(ROWS, -1, -1)}


@inputs_for("image-text", "emu3")
def _image_with_size(model: Model) -> Iterator[Inputs]:
    """A token for eight pixels in each direction; one more ends each row of tokens."""
    size = IMAGE_SIZE // 2
    sizes = {"image_sizes": torch.tensor([[size, size]] * ROWS)}
    rows = size // 8
    shape = (ROWS, 3, size, size)
    yield within_text(model, rows * (rows + 1), lambda seed: {"pixel_values": noise(*shape, seed=seed)} | sizes)


@inputs_for("image-text", "kimi_k25")
def _square_patches(model: Model) -> Iterator[Inputs]:
    grid = {"image_grid_thw": torch.tensor([[1, _SIDE, _SIDE]] * ROWS)}
    shape = (ROWS * _SIDE**2, 3, PATCH, PATCH)
    yield within_text(model, _SIDE, lambda seed: {"pixel_values": noise(*shape, seed=seed)} | grid)


@inputs_for("image-text", "blip-2", "instructblip")
def _a_token_for_each_query(model: Model) -> Iterator[Inputs]:
    """The model itself does not check that there are as many."""
    yield within_text(model, model.config.num_query_tokens, _image)


@inputs_for("image-text", "instructblipvideo")
def _a_token_for_each_query_of_a_frame(model: Model) -> Iterator[Inputs]:
    frames = 4
    shape = (ROWS, frames, 3, IMAGE_SIZE, IMAGE_SIZE)
    count = frames * model.config.num_query_tokens
    yield within_text(model, count, lambda seed: {"pixel_values": noise(*shape, seed=seed)})


@inputs_for("image-text", "llama4")
def _image_for_an_output_that_lacks_it(model: Model) -> Iterator[Inputs]:
    """Transformers 5.24 reads an attribute that the output of the language model has not, and so cannot run."""
    MoeCausalLMOutputWithPast.image_outputs = None  # type: ignore[attr-defined]
    yield within_text(model, 16, _image)


@inputs_for("image-text", "fast_vlm")
def _image_of_five_halvings(model: Model) -> Iterator[Inputs]:
    shape = (ROWS, 3, 4 * IMAGE_SIZE, 4 * IMAGE_SIZE)
    yield within_text(model, 4, lambda seed: {"pixel_values": noise(*shape, seed=seed)})


@inputs_for("image-text", "gemma3n")
@inputs_for("causal-lm", "gemma3n")
def _large_image(model: Model) -> Iterator[Inputs]:
    shape = (ROWS, 3, 2 * IMAGE_SIZE, 2 * IMAGE_SIZE)
    yield within_text(model, 4, lambda seed: {"pixel_values": noise(*shape, seed=seed)})


@inputs_for("image-text", "paddleocr_vl")
def _square_patches_to_merge(model: Model) -> Iterator[Inputs]:
    grid = {"image_grid_thw": torch.tensor([[1, _SIDE, _SIDE]] * ROWS)}
    shape = (ROWS * _SIDE**2, 3, PATCH, PATCH)
    yield within_text(model, _SIDE, lambda seed: {"pixel_values": noise(*shape, seed=seed)} | grid)


@inputs_for("image-text", "idefics")
def _image_that_all_tokens_see(model: Model) -> Iterator[Inputs]:
    shape = (ROWS, 1, 3, IMAGE_SIZE, IMAGE_SIZE)
    mask = {"image_attention_mask": ones(ROWS, TOKENS, 1)}
    yield within_text(model, 0, lambda seed: {"pixel_values": noise(*shape, seed=seed)} | mask)


@inputs_for("image-text", "udop")
def _words_in_boxes(model: Model) -> Iterator[Inputs]:
    def boxes(seed: int) -> Batch:
        corners = noise(ROWS, TOKENS, 2, seed=seed).sigmoid() / 2
        return {"bbox": torch.cat([corners, corners + 0.25], -1)}

    yield within_text(model, 0, lambda seed: _image(seed) | boxes(seed))


@inputs_for("image-text", "pi0")
def _state_and_noise_of_actions(model: Model) -> Iterator[Inputs]:
    config = model.config
    shape = (ROWS, 1, 3, IMAGE_SIZE, IMAGE_SIZE)

    def values(seed: int) -> Batch:
        return {
            "pixel_values": noise(*shape, seed=seed),
            "pixel_attention_mask": torch.ones(ROWS, 1, dtype=torch.bool),
            "state": noise(ROWS, config.max_state_dim, seed=seed + 1),
            "noise": noise(ROWS, config.chunk_size, config.max_action_dim, seed=seed + 2),
            "timestep": torch.full((ROWS,), 0.5),
        }

    yield within_text(model, 64, values)


@inputs_for("image-text", "video_llama_3")
def _merged_patches(model: Model) -> Iterator[Inputs]:
    told = {"image_grid_thw": torch.tensor([[1, _SIDE, _SIDE]] * ROWS), "image_merge_sizes": torch.tensor([2] * ROWS)}
    shape = (ROWS * _SIDE**2, 3 * PATCH**2)
    yield within_text(model, _SIDE, lambda seed: {"pixel_values": noise(*shape, seed=seed)} | told)


@inputs_for("image-text", "inkling2", "inkling2_loop")
def _merged_squares(model: Model) -> Iterator[Inputs]:
    grid = {"image_grid_thw": torch.tensor([[1, 2, 2]] * ROWS)}
    shape = (ROWS * 4, 2 * PATCH, 2 * PATCH, 3)
    yield within_text(model, 4, lambda seed: {"pixel_values": noise(*shape, seed=seed)} | grid)


@inputs_for("image-text", "inkling_mm_model")
def _channels_last(model: Model) -> Iterator[Inputs]:
    shape = (ROWS * _SIDE, option(model.config, "temporal_patch_size"), PATCH, PATCH, 3)
    yield within_text(model, _SIDE, lambda seed: {"pixel_values": noise(*shape, seed=seed)})


@inputs_for("image-text", "evolla")
def _protein(model: Model) -> Iterator[Inputs]:
    def make(seed: int) -> Batch:
        protein = {"protein_input_ids": random_ids(10, seed + 1), "protein_attention_mask": ones(ROWS, 10)}
        return {"input_ids": random_ids(TOKENS, seed), "attention_mask": ones(ROWS, TOKENS)} | protein

    yield Inputs("proteins and text", make)


@inputs_for("image-text", "nemotron_h_omni")
def _patches_in_one_row(model: Model) -> Iterator[Inputs]:
    grid = {"image_grid_hw": torch.tensor([[_SIDE, _SIDE]] * ROWS)}
    shape = (ROWS * _SIDE**2, 3 * PATCH**2)
    yield within_text(model, _SIDE, lambda seed: {"pixel_values": noise(*shape, seed=seed)} | grid)


@inputs_for("image-text", "molmo2")
def _pooled_crops(model: Model) -> Iterator[Inputs]:
    """Four tokens an image, each of the mean of four patches."""
    pooling = torch.arange(ROWS * _SIDE**2).view(ROWS * _SIDE, _SIDE)
    told = {
        "image_token_pooling": pooling,
        "image_grids": torch.tensor([[2, 2, 0, 0]] * ROWS),
        "image_num_crops": ones(ROWS),
    }
    yield within_text(model, _SIDE, lambda seed: _patches(seed) | told)


@inputs_for("image-classification", "shieldgemma2")
def _image_and_policy(model: Model) -> Iterator[Inputs]:
    yield within_text(model, 4, _image)


@inputs_for("image-text", "mllama")
def _tiles(model: Model) -> Iterator[Inputs]:
    tiles = option(model.config, "max_num_tiles", default=4)
    told = {
        "aspect_ratio_ids": ones(ROWS, 1),
        "aspect_ratio_mask": ones(ROWS, 1, tiles),
        "cross_attention_mask": ones(ROWS, TOKENS, 1, tiles),
    }
    shape = (ROWS, 1, tiles, 3, IMAGE_SIZE, IMAGE_SIZE)
    yield within_text(model, 0, lambda seed: {"pixel_values": noise(*shape, seed=seed)} | told)


@inputs_for("image-text", "granite_docling")
def _tiles_with_mask(model: Model) -> Iterator[Inputs]:
    shape = (ROWS, 1, 3, IMAGE_SIZE, IMAGE_SIZE)
    mask = {"pixel_attention_mask": torch.ones(ROWS, 1, dtype=torch.bool)}
    for count in (64, 16, 4):
        yield within_text(model, count, lambda seed: {"pixel_values": noise(*shape, seed=seed)} | mask)


@inputs_for("image-text", "deepseek_vl_hybrid")
def _two_resolutions(model: Model) -> Iterator[Inputs]:
    shape = (ROWS, 3, 2 * IMAGE_SIZE, 2 * IMAGE_SIZE)
    yield within_text(model, 64, lambda seed: _image(seed) | {"high_res_pixel_values": noise(*shape, seed=seed)})


@inputs_for("image-text", "kosmos-2")
def _marked_places(model: Model) -> Iterator[Inputs]:
    yield Inputs(
        IMAGES_AND_TEXT, lambda seed: _with_places(option(model.config, "latent_query_num"), seed) | _image(seed)
    )


@inputs_for("image-text", "kosmos-2.5")
def _marked_places_of_patches(model: Model) -> Iterator[Inputs]:
    width = 2 + option(model.config, "patch_embed_hidden_size", default=3 * PATCH**2)
    yield Inputs(
        IMAGES_AND_TEXT,
        lambda seed: (
            _with_places(option(model.config, "latent_query_num"), seed)
            | {"flattened_patches": noise(ROWS, _SIDE**2, width, seed=seed).abs()}
        ),
    )


def _with_places(count: int, seed: int) -> Batch:
    ids = random_ids(TOKENS + count, seed)
    places = torch.zeros_like(ids)
    places[:, 2 : 2 + count] = 1
    return {"input_ids": ids, "image_embeds_position_mask": places}


@inputs_for("speech-seq2seq", "dia")
def _codes_of_channels(model: Model) -> Iterator[Inputs]:
    channels = model.config.decoder_config.num_channels
    yield Inputs(
        "text",
        lambda seed: {
            "input_ids": random_ids(TOKENS, seed),
            "decoder_input_ids": random_ids(8 * channels, seed).view(ROWS, 8, channels),
        },
    )


@inputs_for("speech-seq2seq", "kyutai_speech_to_text")
def _codes_and_text(model: Model) -> Iterator[Inputs]:
    books = model.config.num_codebooks + 1
    yield Inputs(SOUND_AND_TEXT, lambda seed: {"input_ids": random_ids(TOKENS * books, seed).view(ROWS, TOKENS, books)})


@inputs_for("speech-seq2seq", "pop2piano")
def _wide_spectrogram(model: Model) -> Iterator[Inputs]:
    shape = (ROWS, 16, model.config.d_model)
    yield Inputs(SOUND, lambda seed: {"input_features": noise(*shape, seed=seed)} | decoder_text(model, seed))


@inputs_for("speech-seq2seq", "voxtral_realtime")
@inputs_for("seq2seq-lm", "voxtral_realtime")
def _a_token_for_eight_frames(model: Model) -> Iterator[Inputs]:
    bins = option(model.config, "num_mel_bins")
    yield Inputs(
        SOUND_AND_TEXT,
        lambda seed: {
            "input_ids": random_ids(TOKENS, seed),
            "input_features": noise(ROWS, bins, 8 * TOKENS, seed=seed),
        },
    )


@inputs_for("ctc", "granite_speech5_ctc")
def _stacked_frames(model: Model) -> Iterator[Inputs]:
    width = 4 * option(model.config, "num_mel_bins")
    yield Inputs(SOUND, lambda seed: {"input_features": noise(ROWS, 32, width, seed=seed)})


@inputs_for("speech-seq2seq", "granite_speech", "granite_speech_plus")
@inputs_for("seq2seq-lm", "granite_speech", "granite_speech_plus")
def _windows_of_frames(model: Model) -> Iterator[Inputs]:
    width = option(model.config, "input_dim")
    yield from with_sound(
        model,
        lambda seed: {
            "input_features": noise(ROWS, 16, width, seed=seed),
            "input_features_mask": torch.ones(ROWS, 8, dtype=torch.bool),
        },
    )


@inputs_for("speech-seq2seq", "fun_asr_nano")
def _stacked_bins(model: Model) -> Iterator[Inputs]:
    width = option(model.config, "num_mel_bins") * option(model.config, "num_stacked_frames")
    frames = 16
    token = model.config.audio_token_id

    def make(seed: int, count: int) -> Batch:
        ids = random_ids(TOKENS + count, seed)
        ids[:, 2 : 2 + count] = token
        values = {"input_features": noise(ROWS, frames, width, seed=seed), "input_features_mask": ones(ROWS, frames)}
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)} | values

    yield Inputs(
        SOUND_AND_TEXT,
        lambda seed: make(seed, frames),
        lambda count: Inputs(SOUND_AND_TEXT, lambda seed: make(seed, count)),
    )


@inputs_for("causal-lm", "musicgen", "musicgen_melody", "musicgen_decoder", "musicgen_melody_decoder")
def _codes_of_codebooks(model: Model) -> Iterator[Inputs]:
    books = option(model.config, "num_codebooks", default=4)
    yield Inputs("text", lambda seed: {"input_ids": random_ids(TOKENS, seed, ROWS * books)})


@inputs_for("causal-lm", "gemma4_assistant", "gemma4_unified_assistant")
def _states_of_another_model(model: Model) -> Iterator[Inputs]:
    text = model.config.text_config
    shape = (ROWS, text.num_key_value_heads, TOKENS, text.head_dim)

    def make(seed: int) -> Batch:
        kinds = dict.fromkeys(text.layer_types)
        states = {kind: (noise(*shape, seed=seed), noise(*shape, seed=seed + 1)) for kind in kinds}
        embeds = noise(ROWS, 1, 2 * model.config.backbone_hidden_size, seed=seed + 2)
        return {"inputs_embeds": embeds, "shared_kv_states": states, "position_ids": torch.full((ROWS, 1), TOKENS)}

    yield Inputs("embeddings and states", make)
