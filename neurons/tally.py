"""What is counted of a node's windows."""

from dataclasses import dataclass

import torch
from torch import Tensor

OUTLIER_BIT = 6
OUTLIER_FLAG = 1 << OUTLIER_BIT  # above any number of spikes in a window
_EXACT_IN_FP32 = 1 << 24


@dataclass(slots=True)
class Tally:
    """Kept apart from the node because attributes of modules are slow to set.

    Attributes:
        each: whether spikes of each neuron are wanted, or only those of all.
        raw: spikes of each neuron in the last window, plus `OUTLIER_FLAG` where the outlier sub-neuron coded, int8
            [B, ...]; None where they are not counted.
        total: (spikes, inputs that the outlier sub-neuron coded) in the last window, where not each is wanted.
        out_of_range: how many inputs lay outside the neuron's range since the last reset; a tensor stays on its device.
        live: told by the layer to a recorder: which neurons of the window take part, bool, broadcastable to [B, ...];
            None: all.
        synapses: likewise: synaptic operations that a spike of each neuron causes, int64, broadcastable to [B, ...], or
            one number for all; None where the site's fan-out is fixed.
    """

    each: bool = True
    raw: Tensor | None = None
    total: tuple[Tensor | float, Tensor | float] = (0, 0)
    out_of_range: int | Tensor = 0
    live: Tensor | None = None
    synapses: Tensor | int | None = None

    def reset(self) -> None:
        """Forget everything."""
        self.each = True
        self.raw = self.live = self.synapses = None
        self.total = (0, 0)
        self.out_of_range = 0

    @property
    def spikes(self) -> Tensor | None:
        """Spikes of each neuron in the last window, int8 [B, ...]."""
        return None if self.raw is None else self.raw & (OUTLIER_FLAG - 1)

    def start(self, rows: Tensor) -> "WindowCounts":
        """Counts for a window with membrane potentials `rows`."""
        each = self.each or self.live is not None or isinstance(self.synapses, Tensor)
        return WindowCounts(torch.zeros(rows.shape, dtype=torch.int8, device=rows.device) if each else None)


@dataclass(slots=True)
class WindowCounts:
    """Counts of one window, or a part of one: of each neuron, or summed up while the numbers are in the cache.

    Attributes:
        kept: int8, in the shape of the membrane potentials; None where only sums are wanted.
        spikes, outliers: the sums, where they are.
    """

    kept: Tensor | None
    spikes: Tensor | float = 0
    outliers: Tensor | float = 0

    def part(self, place: slice) -> "WindowCounts":
        """Counts for one part of the rows; its sums must be added."""
        return WindowCounts(None if self.kept is None else self.kept[place])

    def add(self, part: "WindowCounts") -> None:
        """Take the sums of a part."""
        self.spikes, self.outliers = self.spikes + part.spikes, self.outliers + part.outliers

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

    def finish(self, tally: Tally, shape: torch.Size) -> None:
        """Hand the counts of the window, in its own shape, to the node's tally."""
        tally.raw = None if self.kept is None else self.kept.view(shape)
        tally.total = (self.spikes, self.outliers)


def split_counts(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes and outliers of all neurons, from counts with flags, int8 [...]."""
    outliers = _sum(raw >> OUTLIER_BIT)
    return _sum(raw) - outliers * OUTLIER_FLAG, outliers


def _sum(counts: Tensor) -> Tensor:
    """The exact sum of whole numbers, without the cost of a wide type where it is not needed."""
    is_small = counts.numel() < _EXACT_IN_FP32  # and 127 of them each below 2^31
    if counts.is_floating_point():
        return counts.sum(dtype=None if is_small else torch.float64)
    return counts.sum(dtype=torch.int32 if is_small else torch.int64)
