"""Attention of many queries, block by block: scores do not stand in memory whole, and stay in a processor's caches."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from las_sj.models.operations.populations import CHILD, Populations
from las_sj.models.operations.scope import active, paused
from las_sj.neurons import watching

Attention = Callable[
    ..., tuple[Tensor, Tensor | None]
]  # as transformers calls it: [T·B, H, S_q, D] to [T·B, S_q, H, D]
ACCUMULATED, TEMPORAL = 1 << 21, 1 << 24  # scores at a time, of all steps: as in `layers.tiles`
_LEAST, _MULTIPLE = 64, 16  # queries at a time: fewer keep products of matrices from being fast
_NOISE = 6  # tokens


def attend_in_blocks(
    attention: Attention,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """What attention gives, of a block of queries at a time where that is the same.

    Keys and values are coded for each block again, to the same spikes; whoever counts them sees all queries at once.

    Args:
        attention: eager attention of transformers.
        module: whose attention it is.
        query: [T·B, H, S_q, D].
        key, value: [T·B, H_kv, S_k, D].
        mask: what is added to the scores, or None.
        others: what else the function is given.
    """
    size = _queries_at_a_time(query, key)
    if size >= query.shape[2] or not _may_be_split(attention, module, query, key, mask, others):
        return attention(module, query, key, value, mask, **others)
    outputs = []
    for start in range(0, query.shape[2], size):
        block = slice(start, start + size)
        hidden = mask if mask is None else mask[:, :, block]
        outputs.append(attention(module, query[:, :, block], key, value, hidden, **others)[0])
    return torch.cat(outputs, 1), None


def _queries_at_a_time(query: Tensor, key: Tensor) -> int:
    scope, queries = active(), query.shape[2]
    most = TEMPORAL if scope is not None and scope.temporal else ACCUMULATED
    size = max(_LEAST, most // max(query.shape[0] * query.shape[1] * key.shape[2], 1))
    return math.ceil(queries / max(math.ceil(queries / size), 1) / _MULTIPLE) * _MULTIPLE


def _may_be_split(
    attention: Attention, module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, others: dict[str, Any]
) -> bool:
    """Whether nobody looks on, and each query has its own output, whichever others there are."""
    if query.device.type != "cpu" or module.training or watching.operations_are_followed() or _is_watched(module):
        return False
    if mask is not None and (mask.dim() != 4 or mask.shape[2] != query.shape[2]):
        return False
    if any(isinstance(value, Tensor) for value in others.values()):
        return False  # nothing tells which queries it belongs to
    return _is_by_query(attention, module, query, key, others)


def _is_watched(module: nn.Module) -> bool:
    """Whether somebody looks at spikes of a module's populations."""
    populations = watching.children_of(module).get(CHILD)
    if not isinstance(populations, Populations):
        return False
    nodes = [site.node for site in populations.sites()]
    return bool(populations.recorders) or any(
        node.recorder is not None or node.count_spikes or node.store_v_seq or watching.is_wrapped(node)
        for node in nodes
    )


@torch.no_grad()
def _is_by_query(attention: Attention, module: nn.Module, query: Tensor, key: Tensor, others: dict[str, Any]) -> bool:
    """Whether attention gives for some queries of noise what it gives for them among others."""
    draws = torch.Generator().manual_seed(0)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(1, like.shape[1], _NOISE, like.shape[3], generator=draws).to(like.dtype)

    some, keys, values = noise(query), noise(key), noise(key)
    hidden = torch.zeros(1, 1, _NOISE, _NOISE, dtype=query.dtype)
    try:
        with paused():
            whole = attention(module, some, keys, values, hidden, **others)[0]
            part = attention(module, some[:, :, 2:4], keys, values, hidden[:, :, 2:4], **others)[0]
    except (RuntimeError, IndexError, TypeError, ValueError):
        return False  # it needs to know more than that
    return part.shape == whole[:, 2:4].shape and torch.allclose(part, whole[:, 2:4], rtol=1e-3, atol=1e-3)
