"""Tiny configurations: the default one of a model type, its sizes made small by rules, its parts likewise."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig

from every_type.sizes import HEAD_WIDTH, HEADS, IMAGE_SIZE, PATCH, VOCABULARY, WIDTH, small
from every_type.special_types import OPTIONS, composed

Options = dict[str, Any]

_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers")
_OF_LAYERS = "layer_types"  # one kind of layer each; some types take only lists of their own


def tiny_configurations(model_type: str) -> Iterator[tuple[str, Callable[[], PreTrainedConfig]]]:
    """Ways to a tiny configuration, the likeliest first, each with a name.

    Options go to the constructor, which derives others from them; some types check there what only whole sizes
    fulfil, and have theirs set afterwards.
    """
    whole = composed(model_type)
    if whole is not None:
        yield "composed", lambda: whole
        return
    kind = CONFIG_MAPPING[model_type]
    yield "constructed", lambda: _joined(_constructed(kind()))
    yield "set", lambda: _joined(_set(kind()))
    yield "constructed, layers of its own", lambda: _joined(_constructed(kind(), without=(_OF_LAYERS,)))


def parts_of(config: PreTrainedConfig) -> list[tuple[str, PreTrainedConfig]]:
    """The configurations within one, by name."""
    parts = ((name, getattr(config, name, None)) for name in config.sub_configs)
    return [(name, part) for name, part in parts if isinstance(part, PreTrainedConfig)]


def option(config: PreTrainedConfig, *names: str, default: Any = None) -> Any:
    """The first option that a configuration or one of its parts has under one of these names."""
    for owner in (config, *(part for _, part in parts_of(config))):
        for name in names:
            value = getattr(owner, name, None)
            if value is not None:
                return value
    return default


def _constructed(config: PreTrainedConfig, without: tuple[str, ...] = ()) -> PreTrainedConfig:
    options = {name: value for name, value in _small_options(config).items() if name not in without}
    for name, part in parts_of(config):
        if name in options:  # what is known of the type settles it
            continue
        try:
            options[name] = _constructed(part)
        except Exception:  # its checks, of any kind, do not hold for tiny sizes
            options[name] = _set(copy.deepcopy(part))
    return type(config)(**options)


def _set(config: PreTrainedConfig) -> PreTrainedConfig:
    for _, part in parts_of(config):
        _set(part)
    for name, value in _small_options(config).items():
        try:
            setattr(config, name, value)
        except (AttributeError, TypeError, ValueError):  # derived ones cannot be set
            continue
    return config


def _joined(config: PreTrainedConfig) -> PreTrainedConfig:
    """With the sizes of parts that must agree with those of other parts."""
    try:
        width = getattr(config.get_text_config(), "hidden_size", None)
    except ValueError:  # several texts
        return config
    for owner in (config, *(part for _, part in parts_of(config))):
        for name in ("out_hidden_size", "text_hidden_size"):
            given = name in OPTIONS.get(owner.model_type, {})
            if isinstance(getattr(owner, name, None), int) and isinstance(width, int) and not given:
                setattr(owner, name, width)
    return config


def _small_options(config: PreTrainedConfig) -> Options:
    """What to give to a configuration's constructor that its type be tiny."""
    held = {name: value for name, value in vars(config).items() if not name.startswith("_")}
    tokens = iter(range(VOCABULARY - 1, VOCABULARY - 30, -1))
    options: Options = {}
    for name, value in held.items():
        if name in config.sub_configs or isinstance(value, PreTrainedConfig | bool):
            continue
        if _names_a_token(name):
            options |= _token(name, value, tokens)
        elif _is_of_layers(value, held):
            options[name] = _two_kinds(value)
        elif name in ("rope_parameters", "rope_scaling", "rope_theta_parameters"):
            options |= {} if value is None else {name: _plain_rope(value)}
        elif name in ("image_size", "patch_size") and isinstance(value, list | tuple) and len(value) == 2:
            options[name] = [IMAGE_SIZE] * 2 if name == "image_size" else [PATCH] * 2
        elif name == "conv_dim" and isinstance(value, list | tuple):
            options[name] = [16] * len(value)
        elif name == "window_size" and "spatial_merge_size" in held:
            options[name] = 4 * PATCH  # in pixels
        elif isinstance(value, int) and (size := small(name, value)) is not None:
            options[name] = size
    return options | _derived(held) | OPTIONS.get(config.model_type, {})


def _names_a_token(name: str) -> bool:
    return name.endswith(("token_id", "token_index", "tok_id", "tok_index", "_token_indices"))


def _token(name: str, value: Any, others: Iterator[int]) -> Options:
    for beginning, token in (("pad_", 0), ("bos_", 1), ("decoder_start", 1), ("eos_", 2)):
        if name.startswith(beginning):
            return {name: token}
    return {name: next(others)} if isinstance(value, int) else {}


def _is_of_layers(value: Any, held: Options) -> bool:
    """Whether an option has an item for each layer."""
    layers = next((held[name] for name in _LAYERS if isinstance(held.get(name), int)), 0)
    return isinstance(value, list | tuple) and layers > 2 and len(value) == layers


def _two_kinds(items: list[Any] | tuple[Any, ...]) -> list[Any]:
    """Two layers, of different kinds where there are some."""
    kinds = list(dict.fromkeys(items)) if all(isinstance(item, str) for item in items) else []
    return kinds[:2] if len(kinds) > 1 else list(items[:2])


def _plain_rope(value: Any) -> Any:
    """Rotary positions without lists of factors, whose length goes by the width of a head."""
    if not isinstance(value, dict):
        return None
    if any(isinstance(item, dict) for item in value.values()):
        return {name: _plain_rope(item) if isinstance(item, dict) else item for name, item in value.items()}
    lists = {name for name, item in value.items() if isinstance(item, list | tuple)}
    kept = {name: item for name, item in value.items() if name not in lists}
    if lists - {"mrope_section"}:
        kept["rope_type"] = "default"
    if "mrope_section" in value:
        kept["mrope_section"] = [2, 1, 1]
    return kept


def _derived(held: Options) -> Options:
    """Options that are None in the default configuration and would be derived to sizes that do not fit."""
    options: Options = {}
    if "head_dim" in held and held["head_dim"] is None and "num_attention_heads" in held:
        options["head_dim"] = HEAD_WIDTH
    if "num_key_value_heads" in held and (held["num_key_value_heads"] is None or "kv_lora_rank" in held):
        options["num_key_value_heads"] = HEADS
    if "moe_intermediate_size" in held and held["moe_intermediate_size"] is None:
        options["moe_intermediate_size"] = WIDTH
    for name, size in (("n_routed_experts", 4), ("num_experts_per_tok", 2), ("n_shared_experts", 1)):
        if name in held and held[name] is None:
            options[name] = size
    if held.get("layer_types", 0) is None and "full_attn_idxs" in held:
        options["layer_types"] = ["conv", "full_attention"]
    return options
