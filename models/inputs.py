"""The arguments of models of transformers: which hold the batch, and how large it is."""

import inspect
from typing import Any, NamedTuple

from torch import Tensor, nn

from las_sj.neurons import watching

TOKENS = ("input_ids", "inputs_embeds")
# Float inputs enter as constant currents. The vision tower of Qwen2-VL calls its pixels hidden_states.
_VALUES = [
    "inputs_embeds",
    "pixel_values",
    "pixel_values_videos",
    "high_res_pixel_values",
    "flattened_patches",
    "input_features",
    "input_values",
    "inputs",
    "hidden_states",
    "state",
    "noise",
]
_OF_DECODERS = ("decoder_input_ids", "decoder_inputs_embeds")  # whose encoder has run before, in a call of its own
OF_IMAGES = (  # one row for each image or video
    *("image_grid_thw", "video_grid_thw", "grid_thw", "image_grid_hw", "image_grid_hws"),
    *("image_sizes", "image_merge_sizes", "video_merge_sizes", "spatial_shapes"),
)
TARGETS = ("labels", "next_sentence_label", "start_positions", "end_positions", "mc_labels")


class Size(NamedTuple):
    """How much goes into a call: tokens, padding excluded, and sequences or images."""

    tokens: int
    samples: int


def register_input(name: str) -> None:
    """Have a float argument of models, [B, ...], enter as a constant current; it tells the size of the batch too."""
    if name not in _VALUES:
        _VALUES.append(name)


def is_value(name: str) -> bool:
    """Whether an argument is a float input, which enters as a constant current."""
    return name in _VALUES


def values_of(module: nn.Module, named: dict[str, Any]) -> list[str]:
    """Names of the arguments that enter as constant currents; all float ones where a module is no model of
    transformers, whose inputs have names of their own."""
    is_plain = getattr(module, "config", None) is None
    tensors = [name for name, value in named.items() if isinstance(value, Tensor)]
    return [name for name in tensors if is_value(name) or (is_plain and named[name].is_floating_point())]


def sources() -> tuple[str, ...]:
    """The arguments that tell the size of the batch, the first that is given: tokens, or values."""
    return ("input_ids", *_VALUES, *_OF_DECODERS)


def arguments_of(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a forward call by name."""
    return dict(zip(_parameters(module), args, strict=False)) | kwargs


def takes_tokens(module: nn.Module) -> bool:
    """Whether a model takes tokens, or their embeddings."""
    parameters = _parameters(module)
    return any(name in parameters for name in TOKENS)


def _parameters(module: nn.Module) -> list[str]:
    """Names of the parameters of a module's forward method: that of its class, should another be put on it."""
    return list(inspect.signature(type(module).forward).parameters)[1:]


def source_of(named: dict[str, Any]) -> Tensor | None:
    """The input that tells the size of the batch."""
    return next((named[name] for name in sources() if isinstance(named.get(name), Tensor)), None)


def size_of(named: dict[str, Any]) -> Size:
    """How much goes into a call with these arguments; a mask that is not [B, S] does not tell padding."""
    tokens = next((named[name] for name in TOKENS if isinstance(named.get(name), Tensor)), None)
    if tokens is not None:
        mask = named.get("attention_mask")
        if isinstance(mask, Tensor) and mask.dim() == 2 and mask.shape == tokens.shape[:2]:
            return Size(int(mask.bool().sum()), len(tokens))
        return Size(tokens.shape[:2].numel(), len(tokens))
    floats = [name for name, value in named.items() if isinstance(value, Tensor) and value.is_floating_point()]
    known = (*OF_IMAGES, *_VALUES, *floats)
    images = next((named[name] for name in known if isinstance(named.get(name), Tensor)), None)
    return Size(0, 0 if images is None else len(images))


def padding_of(named: dict[str, Any]) -> Tensor | None:
    """Padding among the tokens of this call, bool [B, S], or None without any, as far as the host may look.

    Those that a cache holds are masked too, but not run.
    """
    mask, source = named.get("attention_mask"), source_of(named)
    if not isinstance(mask, Tensor) or mask.dim() != 2 or source is None or source.dim() < 2:
        return None
    mask = mask[:, -source.shape[1] :]
    return mask.bool() if watching.is_captured() or not bool(mask.all()) else None
