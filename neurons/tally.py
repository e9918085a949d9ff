"""What is counted of a node's windows."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(slots=True)
class Tally:
    """Kept apart from the node because attributes of modules are slow to set.

    Attributes:
        spikes: of each neuron in the last window, int8 [B, ...]; None where they are not counted.
        out_of_range: how many inputs lay outside the neuron's range since the last reset.
        outliers: how many inputs the outlier sub-neuron coded since then, where spikes are counted.
        live: told by the layer to a recorder: which neurons of the window take part, bool, broadcastable to [B, ...];
            None: all.
        synapses: likewise: synaptic operations that a spike of each neuron causes, int64, broadcastable to [B, ...], or
            one number for all; None where the site's fan-out is fixed.
    """

    spikes: Tensor | None = None
    out_of_range: int = 0
    outliers: Tensor | int = 0
    live: Tensor | None = None
    synapses: Tensor | int | None = None

    def reset(self) -> None:
        """Forget everything."""
        self.spikes = self.live = self.synapses = None
        self.out_of_range = self.outliers = 0
