"""Counts of one population of neurons, streaming: their size does not depend on how much is counted."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from las_sj.models import Site
from las_sj.neurons import FanOut, ThresholdNode, WindowCounts, WindowNode, WindowRecord
from las_sj.neurons.counts import OUTLIER_FLAG, split_counts
from las_sj.neurons.rate_coded import RateCodedNode

Array = np.ndarray[Any, Any]
Number = Tensor | float

_FLUSH = 1 << 13  # sampled membrane potentials whose trains are looked at together
_ALL_OF_FIRST, _EVERY = 4, 8  # windows sampled: the first four, then every eighth
_OF_WINDOW = ("neurons", "rows", "spikes", "synapses", "macs", "synaptic_operations", "outliers")
_TOTALS = (*_OF_WINDOW, "out_of_range")
_PENDING = 64  # windows whose totals may still be on the device


def window_totals(
    counts: WindowCounts, shape: torch.Size, fan_out: FanOut | None, live: "Live | None"
) -> tuple[Number, ...]:
    """Neurons, rows, spikes, synapses, MACs, synaptic operations and outliers of one window.

    Args:
        counts: of the window.
        shape: of its neurons, [B, ...].
        fan_out: where the spikes go, where the layer told.
        live: which neurons count; None: all.
    """
    kept, synapses = counts.kept, None if fan_out is None else fan_out.synapses
    if kept is not None and live is not None:
        kept = kept * live.mask
    fired, outliers = counts.totals() if kept is None else split_counts(kept)
    neurons = shape.numel() if live is None else live.neurons(shape.numel())
    if isinstance(synapses, Tensor):
        assert kept is not None
        whole = synapses if live is None else live.mask * synapses
        partners: Number = whole.sum() * (shape.numel() // max(whole.numel(), 1))
        operations: Number = (_total_per_part(kept & (OUTLIER_FLAG - 1), whole.shape) * whole).sum()
    else:
        partners, operations = neurons * (synapses or 0), fired * (synapses or 0)
    rows = neurons // (shape[-1] if shape else 1)
    macs = fan_out.macs if fan_out is not None and fan_out.macs is not None else partners
    return neurons, rows, fired, partners, macs, operations, outliers


class SiteSpikes:
    """Counts of one population over all windows seen, padding and masked scores excluded.

    Attributes:
        site: the population.
        neurons: neurons times windows.
        rows: the same divided by the channels of a row: tokens, or queries.
        spikes: spikes of all of them.
        synapses, synaptic_operations: synapses of all neurons, and those that a spike came to, in the sites whose
            fan-out each window has of its own (operands of attention); else 0.
        macs: multiply-accumulates of the ANN in the same sites: one a synapse, unless the layer tells otherwise.
        out_of_range: inputs beyond the calibrated range.
        outliers: inputs that the outlier sub-neuron coded.
    """

    def __init__(self, site: Site, sample: int | None) -> None:
        self.site = site
        self.trains = TrainStatistics(site.node, sample)
        self._totals = dict.fromkeys(_TOTALS, 0)
        self._pending: list[tuple[Number, ...]] = []

    def add(self, record: WindowRecord, live: "Live | None") -> None:
        """Count one window.

        Args:
            record: of the window.
            live: which neurons count; None: all.
        """
        v = record.potential.detach()
        totals = window_totals(record.counts, v.shape, record.fan_out, live)
        out_of_range = self._out_of_range(v, int(record.counts.out_of_range), live)
        self._pending.append((*totals, out_of_range))
        self.trains.add(v, live, record.spikes)
        if len(self._pending) >= _PENDING:
            self._flush()

    def _out_of_range(self, v: Tensor, found: int, live: "Live | None") -> int:
        """How many of the `found` inputs out of range belong to neurons that count."""
        if found == 0 or live is None:
            return found
        node = self.site.node
        return node.count_out_of_range(v.masked_fill(~live.mask, node.inside))

    def _flush(self) -> None:
        for window in self._pending:
            for name, count in zip(_TOTALS, window, strict=True):
                self._totals[name] += int(count)
        self._pending.clear()

    def _total_of(self, name: str) -> int:
        self._flush()
        return self._totals[name]

    @property
    def neurons(self) -> int:
        """Neurons times windows."""
        return self._total_of("neurons")

    @property
    def rows(self) -> int:
        """Rows of channels times windows: tokens, or queries."""
        return self._total_of("rows")

    @property
    def spikes(self) -> int:
        """Spikes of all neurons."""
        return self._total_of("spikes")

    @property
    def synapses(self) -> int:
        """Synapses of all neurons, where each window has a fan-out of its own; else 0."""
        return self._total_of("synapses")

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the ANN, where each window has a fan-out of its own; else 0."""
        return self._total_of("macs")

    @property
    def synaptic_operations(self) -> int:
        """Synapses that spikes came to, where each window has a fan-out of its own; else 0."""
        return self._total_of("synaptic_operations")

    @property
    def outliers(self) -> int:
        """Inputs that the outlier sub-neuron coded."""
        return self._total_of("outliers")

    @property
    def out_of_range(self) -> int:
        """Inputs beyond the calibrated range."""
        return self._total_of("out_of_range")

    @property
    def spikes_per_neuron(self) -> float:
        """Spikes per neuron and window; 0 where nothing was seen."""
        return self.spikes / self.neurons if self.neurons else 0.0

    @property
    def outlier_share(self) -> float:
        """Share of inputs that the outlier sub-neuron coded; 0 for neurons that have none."""
        return self.outliers / self.neurons if self.neurons else 0.0


def _total_per_part(spikes: Tensor, shape: torch.Size) -> Tensor:
    """Sums over the dimensions in which `shape` has one element."""
    dims = [dim for dim, size in enumerate(shape) if size == 1 and spikes.shape[dim] != 1]
    return spikes.sum(dims, keepdim=True) if dims else spikes.long()


class ReadingSpikes:
    """Spikes that an operation reads of a population of another one, and where they go there.

    Attributes:
        site: as if the operation had neurons of its own.
        neurons, rows, spikes, synapses, macs, synaptic_operations, outliers: as of `SiteSpikes`.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.neurons = self.rows = self.spikes = self.synapses = self.macs = self.synaptic_operations = 0
        self.outliers = 0

    def add(self, counts: WindowCounts, shape: torch.Size, fan_out: FanOut, live: "Live | None") -> None:
        """Count one window; arguments are those of `window_totals`."""
        for name, count in zip(_OF_WINDOW, window_totals(counts, shape, fan_out, live), strict=True):
            setattr(self, name, getattr(self, name) + int(count))


class Live:
    """Which neurons of a window count.

    Args:
        mask: bool, broadcastable to the window's [B, ...].
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self._count = int(mask.sum())
        self._array = mask.cpu().numpy()

    def neurons(self, size: int) -> int:
        """How many of the `size` neurons of a window are live."""
        return self._count * (size // max(self.mask.numel(), 1))

    def of(self, index: Array, shape: torch.Size) -> Array:
        """Those of `index`, places in a flattened window of that shape, that are live."""
        place = np.unravel_index(index, shape)
        sizes = self._array.shape
        return index[self._array[tuple(part if size > 1 else 0 for part, size in zip(place, sizes, strict=True))]]


class TrainStatistics:
    """What trains look like: firing rate by time step, spikes by level, silent and saturated neurons.

    Membrane potentials are drawn at random, with a fixed seed, and their trains looked at; all of them where `sample`
    is None. Where each channel has a threshold of its own, whole rows of channels are taken, the first of a window.
    Where spikes do not follow from potentials, trains themselves are drawn.

    Args:
        node: the neurons.
        sample: neurons sampled of each of the first four windows and of every eighth after them, or None. In a temporal
            call a window of softmax is a block of heads.
    """

    def __init__(self, node: WindowNode | RateCodedNode, sample: int | None) -> None:
        self.node = node
        self.sample = sample
        self._holds_trains = isinstance(node, RateCodedNode)
        self._per_channel = not self._holds_trains and getattr(node, "per_channel", False)
        self._seen = 0
        self._by_step = torch.zeros(node.time_steps, dtype=torch.int64)
        self._by_level = torch.zeros(_levels(node) + 1, dtype=torch.int64)
        self._silent = self._saturated = 0
        self._waiting: list[Tensor] = []
        self._waiting_count = 0
        self._windows = 0
        self._generator = np.random.default_rng(0)

    def add(self, v: Tensor, live: Live | None, spikes: Tensor | None = None) -> None:
        """Look at the live neurons of one window.

        Args:
            v: membrane potentials, [B, ...].
            live: which of them count; None: all.
            spikes: as of `WindowRecord`.
        """
        self._windows += 1
        if not v.numel() or (self.sample is not None and self._windows > _ALL_OF_FIRST and self._windows % _EVERY):
            return
        self._waiting.append(self._pick(v, live) if spikes is None else self._pick_trains(spikes, live))
        self._waiting_count += self._waiting[-1].numel()
        if self._waiting_count >= _FLUSH:
            self._flush()

    def _pick_trains(self, spikes: Tensor, live: Live | None) -> Tensor:
        """Trains of spikes [T, B, ...], as [N, T]."""
        shape, trains = spikes.shape[1:], spikes.flatten(1)
        if self.sample is None:
            return (trains if live is None else trains[:, live.mask.expand(shape).flatten()]).t()
        index = self._generator.integers(trains.shape[1], size=min(self.sample, trains.shape[1]))
        index = index if live is None else live.of(index, shape)
        return trains[:, torch.from_numpy(index).to(spikes.device)].t()

    def _pick(self, v: Tensor, live: Live | None) -> Tensor:
        """[N], or rows [N, C] where each channel has a threshold of its own."""
        if self._per_channel:
            rows = v.reshape(-1, v.shape[-1])
            chosen = rows if live is None else rows[live.mask.expand(v.shape).reshape(rows.shape).any(-1)]
            if self.sample is None:
                return chosen
            return chosen[: max(1, self.sample // v.shape[-1])].clone()  # a view would keep all of the window
        if self.sample is None:
            return v.reshape(-1) if live is None else v[live.mask.expand(v.shape)]
        index = self._generator.integers(v.numel(), size=min(self.sample, v.numel()))
        index = index if live is None else live.of(index, v.shape)
        return torch.take(v, torch.from_numpy(index).to(v.device))  # without a copy of a transposed `v`

    def _flush(self) -> None:
        if not self._waiting:
            return
        v = torch.cat(self._waiting)
        self._waiting.clear()
        self._waiting_count = 0
        if v.numel() == 0:
            return
        spikes = v.t().abs() if self._holds_trains else self.node.spikes_of(v).abs()  # [T, N] or [T, N, C]
        fired = spikes > 0
        per_neuron = fired.sum(0)
        self._seen += per_neuron.numel()
        self._by_step += fired.flatten(1).sum(1).cpu()
        self._by_level += torch.bincount(spikes[fired].long(), minlength=len(self._by_level)).cpu()
        self._silent += int((per_neuron == 0).sum())
        self._saturated += int((per_neuron >= self.node.most_spikes).sum())

    def _share(self, count: Callable[[], Tensor | int]) -> Tensor | float:
        self._flush()
        return count() / self._seen if self._seen else count() * 0.0

    @property
    def neurons(self) -> int:
        """How many trains were looked at."""
        self._flush()
        return self._seen

    @property
    def firing_rate(self) -> list[float]:
        """Spikes per neuron at each time step, T numbers."""
        rate = self._share(lambda: self._by_step)
        assert isinstance(rate, Tensor)
        return rate.tolist()

    @property
    def levels(self) -> dict[int, float]:
        """Spikes per neuron of each amplitude: in units of θ(t)/n, n … 2n; 1 for binary spikes."""
        share = self._share(lambda: self._by_level)
        assert isinstance(share, Tensor)
        return {level: float(value) for level, value in enumerate(share) if value > 0}

    @property
    def silent(self) -> float:
        """Share of neurons that fired nothing in their window."""
        return float(self._share(lambda: self._silent))

    @property
    def saturated(self) -> float:
        """Share of neurons that fired as often in their window as their code allows."""
        return float(self._share(lambda: self._saturated))


def _levels(node: WindowNode | RateCodedNode) -> int:
    return 2 * node.code.levels if isinstance(node, ThresholdNode) else 1
