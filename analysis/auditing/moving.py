"""Moving spikes: an operator that only moves numbers is run on their codes too, so that each keeps its time step."""

from typing import Any

import torch
from torch import Tensor

from las_sj.analysis.auditing.emissions import SILENT
from las_sj.analysis.auditing.operators import KEEPING_SPIKES, moves_only
from las_sj.analysis.auditing.provenance import Origin, Provenance, codes_for, placed_like, tensors_in

_NUMBERS = frozenset({"self", "src", "source", "value", "values", "other", "tensors", "input"})  # the others are places


def keeps_spikes(func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether spikes are spikes still after an operator has moved, selected or negated them."""
    return name in KEEPING_SPIKES and (name in ("masked_fill", "neg", "where") or moves_only(func, name, args, kwargs))


def origin_of_moved(
    provenance: Provenance, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
) -> Origin | None:
    """The origin of what an operator made of spikes by moving them; None where it was given none."""
    sources, merged = _sources(func, args), provenance.merged(tensors_in((args, kwargs)))
    if merged is None or not any(provenance.has_spikes(source) for source in sources):
        return None
    if name in ("neg", "_to_copy"):
        codes = provenance.codes_of(args[0])
    else:
        codes = func(*_with_codes(provenance, func, args), **_with_named_codes(provenance, kwargs))
    return provenance.with_codes(merged, codes_for(output, codes), [output, *sources])


def origin_of_written(
    provenance: Provenance, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Origin | None:
    """The origin of what an operator has moved numbers in, in place; None where neither was spikes."""
    target, sources = args[0], _sources(func, args)
    merged = provenance.merged(tensors_in((args, kwargs)))
    if merged is None or not any(provenance.has_spikes(source) for source in sources):
        return None
    kept = provenance.codes_around(target).clone()
    if name != "neg":
        func(placed_like(kept, target), *_with_codes(provenance, func, args)[1:], **kwargs)
    return provenance.with_codes(merged, kept, sources)


def origin_of_masked(provenance: Provenance, spikes: Tensor, mask: Tensor, output: Tensor) -> Origin | None:
    """The origin of spikes times a mask of 0 and 1."""
    merged = provenance.merged([spikes, mask])
    if merged is None or not provenance.has_spikes(spikes):
        return merged
    codes = torch.where(mask != 0, provenance.codes_of(spikes), float(SILENT))
    return provenance.with_codes(merged, codes_for(output, codes), [output, spikes])


def _sources(func: Any, args: tuple[Any, ...]) -> list[Tensor]:
    """The tensors whose numbers are moved."""
    named = zip((argument.name for argument in func._schema.arguments), args, strict=False)
    return [tensor for name, value in named if name in _NUMBERS for tensor in tensors_in(value)]


def _with_codes(provenance: Provenance, func: Any, args: tuple[Any, ...]) -> list[Any]:
    named = zip((argument.name for argument in func._schema.arguments), args, strict=False)
    return [_code_of(provenance, value) if name in _NUMBERS else value for name, value in named]


def _with_named_codes(provenance: Provenance, kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: _code_of(provenance, value) if name in _NUMBERS else value for name, value in kwargs.items()}


def _code_of(provenance: Provenance, value: Any) -> Any:
    if isinstance(value, Tensor):
        return provenance.codes_of(value)
    if isinstance(value, list | tuple):
        return [_code_of(provenance, item) for item in value]
    return value if value is None or isinstance(value, str) else float(SILENT)
