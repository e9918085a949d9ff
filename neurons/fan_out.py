"""Where the spikes of one window go, told by the layer that fires to whoever records the window."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class FanOut:
    """Which neurons of a window take part, and how many synaptic operations a spike of each causes.

    Attributes:
        live: bool, broadcastable to the window's [B, ...]; None: all take part.
        synapses: int64, broadcastable to [B, ...], or one number for all; None where the site's fan-out is fixed.
    """

    live: Tensor | None = None
    synapses: Tensor | int | None = None

    @property
    def asks_for_each(self) -> bool:
        """Whether the spikes of each neuron are needed, and not only their sum."""
        return self.live is not None or isinstance(self.synapses, Tensor)
