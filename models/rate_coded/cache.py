"""Caches of keys and values in lanes: [T·B, H, S, D] to modelling code, and a row for each sequence between calls.

Between temporal calls a cache holds [B, T·H, S, D], so that beams and other code of transformers repeat, select and
reorder sequences with all of their lanes.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from transformers import Cache, EncoderDecoderCache

from las_sj.models.lanes import Lanes

_LANES = "las_lanes"  # of a layer of a cache: how many lanes it holds; there between calls alone


@contextmanager
def in_lanes(lanes: Lanes, named: Mapping[str, Any], temporal: bool) -> Iterator[None]:
    """Within this context, a call, the caches among its arguments are what modelling code expects.

    Args:
        lanes: of the network.
        named: arguments of the call.
        temporal: whether it is temporal, and caches [T·B, H, S, D].

    Raises:
        ValueError: a cache is that of the other execution, or of a network with another T.
        NotImplementedError: a temporal call is given a quantised cache, or what an encoder has returned in another.
    """
    given = [*_layers_of(named.values())]
    if not temporal:
        _refuse_lanes(given)
        yield
        return
    _refuse_encoded(named)
    for layer in given:
        _check(layer, lanes.count)
    for layer in given:
        _unfold(layer, lanes.count)
    try:
        yield
    finally:
        fold(named.values(), lanes)


def fold(values: Iterable[Any], lanes: Lanes) -> None:
    """Bring caches among some values, such as a call's outputs, from [T·B, H, S, D] to [B, T·H, S, D].

    Args:
        values: of any kind; caches that are brought there already stay as they are.
        lanes: of the network.
    """
    for layer in _layers_of(values):
        tensors = _tensors(layer)
        if tensors and not hasattr(layer, _LANES):
            for name, tensor in tensors.items():
                by_row = tensor.unflatten(0, (lanes.count, -1)).transpose(0, 1)
                setattr(layer, name, by_row.flatten(1, 2))
            setattr(layer, _LANES, lanes.count)


def _refuse_lanes(layers: Iterable[Any]) -> None:
    if any(hasattr(layer, _LANES) and _tensors(layer) for layer in layers):
        raise ValueError(
            "the cache is that of temporal calls, with keys for each time step: begin with a new one, or call "
            'las_sj.set_execution(model, "temporal")'
        )


def _refuse_encoded(named: Mapping[str, Any]) -> None:
    """Raise where an encoder has run in a call of its own: of its lanes only the mean is left."""
    if named.get("encoder_outputs") is not None:
        raise NotImplementedError(
            "a temporal call takes no encoder_outputs, which are means over time steps, so that an encoder-decoder "
            "cannot generate in it: give input_ids and decoder_input_ids together, or call "
            'las_sj.set_execution(model, "accumulated")'
        )


def _unfold(layer: Any, count: int) -> None:
    has_lanes = hasattr(layer, _LANES)
    for name, tensor in _tensors(layer).items():
        if has_lanes:
            tensor = tensor.unflatten(1, (count, -1)).transpose(0, 1).flatten(0, 1)
        else:  # made beforehand, and still empty
            tensor = tensor.repeat(count, 1, 1, 1)
        setattr(layer, name, tensor)
    if has_lanes:
        delattr(layer, _LANES)


def _check(layer: Any, count: int) -> None:
    if hasattr(layer, "_quantize"):
        raise NotImplementedError("a temporal call takes no quantised cache: leave cache_implementation out")
    if not _tensors(layer):
        return
    found = getattr(layer, _LANES, None)
    if found is None and int(layer.get_seq_length()) > 0:
        raise ValueError(
            "the cache is that of accumulated calls, which have no time steps: begin with a new one, or call "
            'las_sj.set_execution(model, "accumulated")'
        )
    if found not in (None, count):
        raise ValueError(f"the cache has keys of {found} time steps, the network {count}: begin with a new one")


def _tensors(layer: Any) -> dict[str, Tensor]:
    """Keys and values of a layer that holds some."""
    found = {name: getattr(layer, name, None) for name in ("keys", "values")}
    return {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor) and tensor.numel()}


def _layers_of(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, EncoderDecoderCache):
            yield from value.self_attention_cache.layers
            yield from value.cross_attention_cache.layers
        elif isinstance(value, Cache):
            yield from value.layers
