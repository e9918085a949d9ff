"""Where the numbers in a tensor come from, followed through every operation of a call.

Tensors are known by their storage: views share it, and a storage that is gone cannot be mistaken for a new one, because
the weak reference keeps its identity.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from las_sj.analysis.auditing.emissions import ANALOG, SILENT, Emissions, SpikingNode
from las_sj.analysis.auditing.operators import holds_fractions
from las_sj.models.rate_coded.activation import RateCodedActivation
from las_sj.neurons import WindowNode
from las_sj.neurons.rate_coded import RateCodedNode

_PURGE_ABOVE = 20_000  # storages remembered
_PURGE_CODES_ABOVE = 1 << 26  # numbers whose codes are kept


@dataclass(frozen=True)
class Origin:
    """What is known of the numbers in a storage.

    Attributes:
        depth: populations of neurons on the longest way to them.
        index: whether they are tokens, positions or what was decided: whole numbers made of nothing but whole numbers
            that went in and of decisions, and masks of 0 and 1 that say so.
        emitted: the neurons whose train the storage holds, contiguous, and the train's shape.
        codes: of each number in the storage (`Emissions`), where spikes have been moved to it; float64.
        dtype: the coarsest type that spikes were rounded to on the way; None: that of the tensor.
        populations: those whose output comes here with no other neurons in between.
        layers: of weights, whose results come here likewise.
    """

    depth: int = 0
    index: bool = False
    emitted: tuple[SpikingNode, torch.Size] | None = None
    codes: Tensor | None = field(default=None, compare=False, repr=False)
    dtype: torch.dtype | None = None
    populations: frozenset[str] = frozenset()
    layers: frozenset[str] = frozenset()

    @property
    def has_spikes(self) -> bool:
        """Whether numbers in the storage may be spikes."""
        return self.codes is not None or self.emitted is not None


class Provenance:
    """Remembers the origin of every tensor: data, which depend on the input values, or constants.

    A tensor that nobody told of, such as one that came back from numpy, may be anything, and counts as data. One number
    alone is a constant: compiled functions make tensors of those in the code.
    """

    def __init__(self) -> None:
        self._emissions = Emissions()
        self._origins: dict[int, tuple[StorageWeakRef, Origin | None]] = {}
        self._codes = 0

    def of(self, tensor: Tensor) -> Origin | None:
        """The origin of a tensor's numbers; None: a constant."""
        entry = self._origins.get(tensor.untyped_storage()._cdata)
        if entry is None:
            return None if _size_of_storage(tensor) == 1 else Origin()
        return entry[1]

    def mark(self, tensor: Tensor, origin: Origin | None) -> None:
        """Say where the numbers that were just written to a tensor come from."""
        storage = tensor.untyped_storage()
        self._origins[storage._cdata] = (StorageWeakRef(storage), origin)
        if origin is not None and origin.codes is not None:
            self._codes += origin.codes.numel()
        if len(self._origins) > _PURGE_ABOVE or self._codes > _PURGE_CODES_ABOVE:
            self._origins = {key: entry for key, entry in self._origins.items() if not entry[0].expired()}
            self._codes = 0

    def mark_rate_code(self, activation: RateCodedActivation, output: Tensor) -> None:
        """Say that rate-coded neurons emitted spikes [T·B, ...] that carry their thresholds.

        Thresholds of a site or channel go into the next weights. Those of a position cannot: such spikes are numbers.
        """
        origin = self.of(output)
        if origin is not None and activation.node.theta.dim() < 2 and activation.execution.temporal:
            shape = activation.execution.split_time(output).shape
            self.mark(output, replace(origin, emitted=(activation.node, shape)))

    def mark_layer(self, name: str, output: Tensor) -> None:
        """Say that a tensor is the result of the layer of weights of a name."""
        origin = self.of(output)
        if origin is not None:
            self.mark(output, replace(origin, layers=frozenset((name,))))

    def mark_train(self, name: str, node: WindowNode | RateCodedNode, train: Tensor, inputs: Origin | None) -> None:
        """Say that the population of a name emitted a train [T, ...]; HG neurons emit currents of any amplitude.

        Of rate codes, spikes are what the layer around the neurons makes of them.
        """
        origin = Origin(1 if inputs is None else inputs.depth + 1, populations=frozenset((name,)))
        if isinstance(node, SpikingNode) and train.dim():
            if covers_its_storage(train):
                origin = replace(origin, emitted=(node, train.shape))
            else:
                codes = self._emissions.codes_of_train(node, train.shape, train.device)
                origin = replace(origin, codes=codes_for(train, codes, elsewhere=ANALOG))
        self.mark(train, origin)

    def merged(self, tensors: list[Tensor]) -> Origin | None:
        """The origin of something computed from several tensors."""
        origins = [origin for origin in map(self.of, tensors) if origin is not None]
        if not origins:
            return None
        return Origin(
            max(origin.depth for origin in origins),
            index=all(origin.index for origin in origins),
            populations=frozenset().union(*(origin.populations for origin in origins)),
            layers=frozenset().union(*(origin.layers for origin in origins)),
        )

    def has_spikes(self, tensor: Tensor) -> bool:
        """Whether numbers of a tensor may be spikes."""
        origin = self.of(tensor)
        return origin is not None and origin.has_spikes and holds_fractions(tensor)

    def is_spikes(self, tensor: Tensor) -> bool:
        """Whether every number in a tensor is a spike of the neurons it came from, or 0: checked on the values.

        At step t, 0 and ±θ(t)(1 + j/n) of one of the neuron's sub-neurons pass, and the same times a power of two where
        rows have octave gates. Spikes may have been moved since they were emitted; any other operation makes them
        analog.
        """
        origin = self.of(tensor)
        if origin is None or not self.has_spikes(tensor):
            return False
        values = tensor.detach()
        if values.is_complex():
            values = torch.where(values.imag == 0, values.real, torch.nan)
        return self._emissions.are_spikes(values, self.codes_of(tensor), origin.dtype or tensor.dtype)

    def codes_of(self, tensor: Tensor) -> Tensor:
        """The code of each number in a tensor (`Emissions`), float64 of its shape."""
        return placed_like(self.codes_around(tensor), tensor)

    def codes_around(self, tensor: Tensor) -> Tensor:
        """The code of each number in the storage of a tensor, float64."""
        origin, size = self.of(tensor), _size_of_storage(tensor)
        if origin is not None and self.has_spikes(tensor):
            codes = origin.codes
            if codes is None and origin.emitted is not None:
                codes = self._emissions.codes_of_train(*origin.emitted, tensor.device).reshape(-1)
            if codes is not None and len(codes) == size:
                return codes
        return torch.full((size,), SILENT if origin is None else ANALOG, dtype=torch.float64, device=tensor.device)

    def with_codes(self, origin: Origin, codes: Tensor, sources: list[Tensor]) -> Origin:
        """`origin` of a storage whose numbers have these codes, moved there from `sources`."""
        types = [source.dtype for source in sources if holds_fractions(source)]
        for found in map(self.of, sources):
            types += [] if found is None or found.dtype is None else [found.dtype]
        coarsest = max(types, key=lambda dtype: torch.finfo(dtype).eps)
        return replace(origin, index=False, codes=codes, dtype=coarsest)


def codes_for(tensor: Tensor, codes: Tensor, elsewhere: int = SILENT) -> Tensor:
    """What to keep of a tensor's storage where the tensor's numbers have these codes."""
    kept = torch.full((_size_of_storage(tensor),), elsewhere, dtype=torch.float64, device=tensor.device)
    placed_like(kept, tensor).copy_(codes)
    return kept


def _size_of_storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes() // tensor.element_size()


def placed_like(of_storage: Tensor, tensor: Tensor) -> Tensor:
    """What is kept of each number in a storage, as a tensor looks at the storage."""
    return of_storage.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def covers_its_storage(tensor: Tensor) -> bool:
    """Whether there is nothing in a tensor's storage but the tensor."""
    return tensor.is_contiguous() and tensor.numel() == _size_of_storage(tensor)


def tensors_in(tree: Any) -> list[Tensor]:
    """All tensors in nested arguments."""
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]
