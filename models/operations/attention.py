"""The attention interface of transformers for models that are converted by operations: their own eager attention."""

import inspect
import sys
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PretrainedConfig, PreTrainedModel
from transformers.masking_utils import eager_mask

from las_sj.models.operations.known_attention import at_once_where_it_can_be
from las_sj.models.operations.query_blocks import attend_in_blocks
from las_sj.models.operations.scope import active

NAME = "las_sj_operations"
# Vision towers hand over all images in one row, with their bounds, where the name of the implementation says so.
PACKED = "las_sj_flash_operations"
_PACKING = ("cu_seq", "max_length", "is_causal")


def native_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """transformers' attention interface: the eager function of the module's own file, or the one that most have."""
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    native: Any = _eager_function_of(module)
    groups = query.shape[1] // key.shape[1]
    if groups > 1 and not _repeats_heads(native):  # some files leave that to the kernels of torch
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    return attend_in_blocks(
        native, module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
    )


def _eager_function_of(module: nn.Module) -> Any:
    return vars(sys.modules[type(module).__module__]).get("eager_attention_forward", _eager)


@cache
def _repeats_heads(native: Any) -> bool:
    return any("repeat" in name for name in inspect.unwrap(native).__code__.co_names)


def _eager(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = torch.matmul(query, key.transpose(-1, -2)) * scaling
    scores = scores if attention_mask is None else scores + attention_mask[..., : key.shape[-2]]
    weights = F.dropout(F.softmax(scores, dim=-1), dropout, module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """transformers' attention interface for images in one row, [1, H, T·P, D], whose bounds `cu_seq_lens_q` tells."""
    bounds, scope = kwargs.get("cu_seq_lens_q"), active()
    if bounds is None or len(query) != 1:
        return native_attention(module, query, key, value, attention_mask, scaling, dropout, **kwargs)
    steps = 1 if scope is None else scope.time.time_steps
    lengths = (bounds[1:] - bounds[:-1]).tolist()
    lengths = lengths[: len(lengths) // steps]
    rows = [x[0].unflatten(1, (steps, -1)).transpose(0, 1).split(lengths, 2) for x in (query, key, value)]
    rest: dict[str, Any] = {name: value for name, value in kwargs.items() if not name.startswith(_PACKING)}
    images = [
        native_attention(module, q, k, v, None, scaling, dropout, **rest)[0] for q, k, v in zip(*rows, strict=True)
    ]
    return torch.cat(images, 1).flatten(0, 1).unsqueeze(0), None


def use_native_attention(model: nn.Module) -> None:
    """Have all models inside of one run their own eager attention."""
    for module in model.modules():
        config = getattr(module, "config", None)
        if isinstance(config, PretrainedConfig):
            packs = isinstance(module, PreTrainedModel) and _packs(type(module))
            if packs or config._attn_implementation != PACKED:
                config._attn_implementation_internal = PACKED if packs else NAME


def keep_order_of_tokens(model: nn.Module) -> None:
    """Have experts take the tokens in their order, not sorted by expert, which would lose the order of time."""
    for module in model.modules():
        config = getattr(module, "config", None)
        if isinstance(config, PretrainedConfig):
            config._experts_implementation_internal = "batched_mm"


def _packs(kind: type[nn.Module]) -> bool:
    """Whether attention of a model gets the bounds of images where it believes that a flash kernel runs it."""
    files = inspect.getsource(sys.modules[getattr(kind, "las_parts", ((), kind))[1].__module__])
    return "cu_seq_lens_q=" in files


AttentionInterface.register(NAME, at_once_where_it_can_be(native_attention, _eager_function_of))
AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(NAME, eager_mask)
AttentionMaskInterface.register(PACKED, eager_mask)
