"""Where the spikes of one window go, told by the layer that fires to whoever records the window."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor


@dataclass(frozen=True)
class FanOut:
    """Which neurons of a window take part, and how many synaptic operations a spike of each causes.

    Attributes:
        live: bool, broadcastable to the window's [B, ...]; None: all take part.
        synapses: int64, broadcastable to [B, ...], or one number for all; None where the site's fan-out is fixed.
        macs: multiply-accumulates of the ANN, where they are not one a synapse: it multiplies the zeros that a
            convolution is padded with too.
        are_read_again: whether other layers read the same spikes, and tell of each where it goes.
    """

    live: Tensor | None = None
    synapses: Tensor | int | None = None
    macs: int | None = None
    are_read_again: bool = False

    @property
    def asks_for_each(self) -> bool:
        """Whether the spikes of each neuron are needed, and not only their sum."""
        return self.live is not None or isinstance(self.synapses, Tensor) or self.are_read_again

    def inputs(self, size: int) -> int:
        """How many of a window's `size` neurons take part."""
        return size if self.live is None else int(self.live.sum()) * (size // max(self.live.numel(), 1))


class LazyFanOut(FanOut):
    """What nobody asks for, unless inputs lie out of range and those of padding must not count.

    Args:
        find: works it out.
        share: of the neurons that take part.
    """

    def __init__(self, find: Callable[[], FanOut], share: float) -> None:
        self.__dict__.update(_find=find, _share=share)

    @cached_property
    def found(self) -> FanOut:
        """What was worked out."""
        found: FanOut = self.__dict__["_find"]()
        return found

    @property
    def live(self) -> Tensor | None:  # type: ignore[override]
        """As of `FanOut`."""
        return self.found.live

    @property
    def synapses(self) -> Tensor | int | None:  # type: ignore[override]
        """As of `FanOut`."""
        return self.found.synapses

    @property
    def macs(self) -> int | None:  # type: ignore[override]
        """As of `FanOut`."""
        return self.found.macs

    def inputs(self, size: int) -> int:
        """As of `FanOut`, by the share."""
        return round(size * self.__dict__["_share"])
