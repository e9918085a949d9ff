"""Where the numbers in a tensor come from, followed through every operation of a call.

Tensors are known by their storage: views share it, and a storage that is gone cannot be mistaken for a new one, because
the weak reference keeps its identity.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from las_sj.neurons import HGNode, ThresholdNode, WindowNode

_PURGE_ABOVE = 20_000  # storages remembered


@dataclass(frozen=True)
class Origin:
    """What is known of the numbers in a storage.

    Attributes:
        depth: populations of neurons on the longest way to them.
        node: the neurons that emitted them, where the storage is their train itself, [T, ...], contiguous.
        index: whether they are whole numbers made of nothing but whole numbers that went in: tokens and positions.
        dtype: the coarsest type that they were rounded to on the way; None: that of the tensor.
    """

    depth: int = 0
    node: WindowNode | None = None
    index: bool = False
    dtype: torch.dtype | None = None


class Provenance:
    """Remembers the origin of every tensor: data, which depend on the input values, or constants.

    A tensor that nobody told of, such as one that came back from numpy, may be anything, and counts as data.
    """

    def __init__(self) -> None:
        self._origins: dict[int, tuple[StorageWeakRef, Origin | None]] = {}

    def of(self, tensor: Tensor) -> Origin | None:
        """The origin of a tensor's numbers; None: a constant."""
        entry = self._origins.get(tensor.untyped_storage()._cdata)
        return entry[1] if entry is not None else Origin()

    def mark(self, tensor: Tensor, origin: Origin | None) -> None:
        """Say where the numbers that were just written to a tensor come from."""
        storage = tensor.untyped_storage()
        self._origins[storage._cdata] = (StorageWeakRef(storage), origin)
        if len(self._origins) > _PURGE_ABOVE:
            self._origins = {key: entry for key, entry in self._origins.items() if not entry[0].expired()}

    def of_copy(self, copy: Tensor, source: Tensor, merged: Origin | None) -> Origin | None:
        """The origin of a copy in another type, given what `merged` says: of a train it is the same train, rounded."""
        origin = self.of(source)
        if origin is None or origin.node is None or copy.stride() != source.stride() or not copy.is_floating_point():
            return merged
        if source.untyped_storage().nbytes() != source.numel() * source.element_size():
            return merged  # of a part the time steps are not known any more
        types = (source.dtype, copy.dtype, *([] if origin.dtype is None else [origin.dtype]))
        return replace(origin, dtype=max(types, key=lambda dtype: torch.finfo(dtype).eps))

    def merged(self, tensors: list[Tensor]) -> Origin | None:
        """The origin of something computed from several tensors."""
        origins = [origin for origin in map(self.of, tensors) if origin is not None]
        if not origins:
            return None
        return Origin(max(origin.depth for origin in origins), index=all(origin.index for origin in origins))


def is_spikes(tensor: Tensor, origin: Origin | None) -> bool:
    """Whether every number in a tensor is a spike of the neurons it came from, or 0: checked on the values.

    Only a train itself, or a view of it, can be: at step t, 0 and ±θ(t)(1 + j/n) of one of the neuron's sub-neurons
    pass, and the same times a power of two where rows have octave gates. Of a copy the time steps are not known any
    more, so it counts as analog. HG neurons emit currents of arbitrary amplitude, which are no spikes for a
    multiplication.
    """
    if origin is None or not isinstance(origin.node, ThresholdNode):
        return False
    values, step = tensor.detach().abs().double(), _step_of(tensor, origin.node.time_steps)
    rounded_to = origin.dtype or tensor.dtype
    return bool(_is_level(values * torch.exp2(step + 1), step == 0, origin.node, rounded_to).all())


def _step_of(tensor: Tensor, time_steps: int) -> Tensor:
    """The time step, from 0, that each number of a view of a whole train belongs to."""
    total = tensor.untyped_storage().nbytes() // tensor.element_size()
    place = torch.arange(total, device=tensor.device).as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
    return place // (total // time_steps)


def _is_level(scaled: Tensor, first: Tensor, node: ThresholdNode, dtype: torch.dtype) -> Tensor:
    """Whether |s|·2^t, for spikes s at steps t (from 1), is 0 or α(1 + j/n) of a sub-neuron; bool [...]."""
    n = node.code.levels
    highest = torch.where(first, 2 * n, 2 * n - 1)
    allowed = scaled == 0
    for threshold in node.parameters():
        base = threshold.detach().double()
        level = scaled / (base * _octave(scaled / base, node)) * n
        whole = level.round()
        exact = (level - whole).abs() <= 4 * n * torch.finfo(dtype).eps
        allowed |= exact & (whole >= n) & (whole <= highest)
    return allowed


def _octave(size: Tensor, node: ThresholdNode) -> Tensor | float:
    """2^k of the octave that spikes of these sizes, in units of a threshold, can be of; 1 without octave gates."""
    if node.octaves is None:
        return 1.0
    whole = size.clamp(min=torch.finfo(size.dtype).tiny) * (1 + 2.0**-16)  # spikes are rounded
    return torch.exp2(whole.log2().floor().clamp(min=0.0))


def train_origin(node: WindowNode, inputs: Origin | None) -> Origin:
    """The origin of what a population just emitted."""
    depth = (0 if inputs is None else inputs.depth) + 1
    return Origin(depth, None if isinstance(node, HGNode) else node)


def tensors_in(tree: Any) -> list[Tensor]:
    """All tensors in nested arguments."""
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]
