"""What goes into a call: values, whose products an audit looks for, and tokens; all else is a constant."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from las_sj.analysis.auditing.provenance import tensors_in
from las_sj.models.inputs import sources

_TOKENS = ("input_ids", "decoder_input_ids")
_NO_INPUTS = ("attention_mask", "position_ids", "position_embeddings")  # of models of transformers, not even alone
_CONSTANTS = ("mask", "position", "rotary")  # parts of the names of float inputs that say where, not what


def roots_of(batch: Mapping[str, Any]) -> list[Tensor]:
    """The tensors of a batch that the network computes with: tokens, and every float input but masks and positions.

    A plain module may compute with those too, where the batch has nothing else.

    Raises:
        ValueError: there is none.
    """
    each = [(name, tensor) for name, value in batch.items() for tensor in tensors_in(value)]
    found = [tensor for name, tensor in each if _is_root(name, tensor)]
    found = found or [tensor for name, tensor in each if _is_value(tensor) and name not in _NO_INPUTS]
    if not found:
        raise ValueError(
            f"the batch must have one of {', '.join(sources())}, or another float input, "
            f"got {', '.join(batch) or 'nothing'}"
        )
    return found


def _is_root(name: str, tensor: Tensor) -> bool:
    if _is_value(tensor):
        return name in sources() or not any(part in name for part in _CONSTANTS)
    return name in (*_TOKENS, *sources())


def _is_value(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()
