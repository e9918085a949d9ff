"""What a recorder is told of one window."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from las_sj.neurons.counts import WindowCounts
from las_sj.neurons.fan_out import FanOut


@dataclass(frozen=True)
class WindowRecord:
    """One window of one population.

    Attributes:
        potential: membrane potentials before the first spike, [B, ...].
        emitted: the spike train [T, B, ...], or its sum [B, ...] in step mode "s".
        counts: spikes and inputs out of range of this window.
        fan_out: which neurons take part and where their spikes go, where the layer told.
        spikes: the train's spikes as signed levels, [T, B, ...], of neurons whose spikes do not follow from
            `potential`; None of all others, which have `spikes_of`.
        scale: what such a spike carries, broadcastable to [B, ...].
    """

    potential: Tensor
    emitted: Tensor
    counts: WindowCounts
    fan_out: FanOut | None = None
    spikes: Tensor | None = None
    scale: Tensor | None = None


Recorder = Callable[[Any, WindowRecord], None]  # called with the node, and what it did
