"""What is counted of a window, and what a node keeps of it."""

from dataclasses import dataclass, field
from threading import Lock

import torch
from torch import Tensor

OUTLIER_BIT = 6
OUTLIER_FLAG = 1 << OUTLIER_BIT  # above any number of spikes in a window
_EXACT_IN_FP32 = 1 << 24
_ADDING = Lock()  # of numbers that several threads add to; one for all, since modules with locks cannot be copied


@dataclass(slots=True)
class WindowCounts:
    """Counts of one window, or a part of one.

    Attributes:
        counts_spikes: whether spikes are counted, or only inputs out of range.
        kept: spikes of each neuron, plus `OUTLIER_FLAG` where the outlier sub-neuron coded, int8, in the shape of the
            membrane potentials; None where only sums are wanted.
        spikes, outliers: sums over the neurons, made while the numbers are in the cache; where not each is kept.
        out_of_range: inputs outside the neuron's range; a tensor stays on its device.
    """

    counts_spikes: bool = False
    kept: Tensor | None = None
    spikes: Tensor | float = 0
    outliers: Tensor | float = 0
    out_of_range: Tensor | int = 0

    @classmethod
    def of_each(cls, rows: Tensor) -> "WindowCounts":
        """Counts that keep the spikes of each neuron, for membrane potentials `rows`."""
        return cls(True, torch.zeros(rows.shape, dtype=torch.int8, device=rows.device))

    @property
    def each(self) -> Tensor | None:
        """Spikes of each neuron, int8 [B, ...], if they were kept."""
        return None if self.kept is None else self.kept & (OUTLIER_FLAG - 1)

    def totals(self) -> tuple[Tensor | float, Tensor | float]:
        """Spikes and outliers of all neurons."""
        return (self.spikes, self.outliers) if self.kept is None else split_counts(self.kept)

    def part(self, place: slice) -> "WindowCounts":
        """Counts for one part of the rows; its sums must be added."""
        return WindowCounts(self.counts_spikes, None if self.kept is None else self.kept[place])

    def add(self, part: "WindowCounts") -> None:
        """Take the sums of a part."""
        self.spikes, self.outliers = self.spikes + part.spikes, self.outliers + part.outliers
        self.out_of_range = self.out_of_range + part.out_of_range

    def add_fired(self, fired: Tensor) -> None:
        """Count a spike wherever `fired` (float [...]) is 1 and not 0."""
        if self.kept is None:
            self.spikes = self.spikes + _sum(fired)
        else:
            self.kept += fired.to(torch.int8)

    def add_counts(self, counts: Tensor) -> None:
        """Add numbers of spikes, int8 [...]."""
        if self.kept is None:
            self.spikes = self.spikes + _sum(counts)
        else:
            self.kept += counts

    def add_at(self, place: Tensor, counts: Tensor) -> None:
        """Add numbers of spikes [N] at N places (bool [...])."""
        if self.kept is None:
            self.spikes = self.spikes + counts.sum()
        else:
            self.kept[place] += counts.to(torch.int8)

    def add_outliers(self, is_outlier: Tensor) -> None:
        """Count an outlier wherever `is_outlier` (bool [...]) says."""
        if self.kept is None:
            self.outliers = self.outliers + _sum(is_outlier)
        else:
            self.kept.add_(is_outlier.to(torch.int8), alpha=OUTLIER_FLAG)


@dataclass(slots=True)
class NodeCounts:
    """What a node keeps of its windows; apart from the node because attributes of modules are slow to set.

    Attributes:
        last: counts of the last window, where spikes were counted.
        added: inputs outside the neuron's range since the last reset, as windows told them.
        counters: those that kernels on other devices have counted besides, each a tensor that they add to.
        inputs: all inputs since then.
        marked: what `inputs` and `out_of_range` were at the last mark.
    """

    last: WindowCounts | None = None
    added: Tensor | int = 0
    counters: list[Tensor] = field(default_factory=list)
    inputs: int = 0
    marked: tuple[int, Tensor | int] = (0, 0)

    @property
    def out_of_range(self) -> Tensor | int:
        """Inputs outside the neuron's range since the last reset; a tensor stays on its device."""
        total = self.added
        for counter in self.counters:
            total = counter + (total.to(counter.device) if isinstance(total, Tensor) else total)
        return total

    @property
    def is_elsewhere(self) -> bool:
        """Whether `out_of_range` must be fetched from another device."""
        return bool(self.counters) or isinstance(self.added, Tensor)

    def take(self, counts: WindowCounts, inputs: int) -> None:
        """Add a window with so many inputs; threads may do so at once."""
        if counts.counts_spikes or self.last is not None:
            self.last = counts if counts.counts_spikes else None
        self.add(inputs, counts.out_of_range)

    def add(self, inputs: int, beyond: Tensor | int) -> None:
        """Add so many inputs, and those of them that lay out of range."""
        with _ADDING:
            self.inputs += inputs
            if isinstance(beyond, Tensor) or beyond:
                self.added = self.added + beyond

    @property
    def recent(self) -> tuple[int, Tensor | int]:
        """Inputs, and those out of range, since the last mark."""
        inputs, out_of_range = self.marked
        return self.inputs - inputs, self.out_of_range - out_of_range

    def mark(self) -> None:
        """Count what is recent from now on."""
        self.marked = (self.inputs, self.out_of_range)

    def reset(self) -> None:
        """Forget everything."""
        self.last = None
        self.added = self.inputs = 0
        for counter in self.counters:
            counter.zero_()  # in place: kernels, and graphs of them, know where it lies
        self.mark()


def add_safely(owner: object, name: str, number: Tensor | int) -> None:
    """owner.name += number, none of which is lost where several threads do so."""
    if isinstance(number, int) and not number:
        return
    with _ADDING:
        setattr(owner, name, getattr(owner, name) + number)


def split_counts(kept: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes and outliers of all neurons, from counts with flags, int8 [...]."""
    outliers = _sum(kept >> OUTLIER_BIT)
    return _sum(kept) - outliers * OUTLIER_FLAG, outliers


def _sum(counts: Tensor) -> Tensor:
    """The exact sum of whole numbers, without the cost of a wide type where it is not needed."""
    is_small = counts.numel() < _EXACT_IN_FP32  # and 127 of them each below 2^31
    if counts.is_floating_point():
        return counts.sum(dtype=None if is_small else torch.float64)
    return counts.sum(dtype=torch.int32 if is_small else torch.int64)
