"""What the gates of a neuron say of it."""

import math

import torch

from las_sj.neurons.grid_gates import GridGates
from las_sj.neurons.octave_gates import OctaveGates


class Gated:
    """The range and the error of a neuron, which follow from its gates.

    Attributes:
        gates: which sub-neuron is open, and its line.
    """

    gates: GridGates | OctaveGates

    @property
    def low(self) -> float:
        """Lower end of the range of inputs."""
        return self.gates.low

    @property
    def high(self) -> float:
        """Upper end of the range of inputs."""
        return self.gates.high

    @property
    def bound(self) -> float:
        """Proven bound of the error within the range."""
        return self.gates.bound

    @property
    def relative_bound(self) -> float:
        """Proven bound of the error within the range, relative to the function."""
        return self.gates.relative_bound

    @property
    def sub_neurons(self) -> int:
        """M, the number of sub-neurons."""
        return self.gates.sub_neurons

    @property
    def stored_lines(self) -> int:
        """Lines that must be stored: sub-neurons whose parameters are those of others, shifted, need none."""
        return self.gates.stored_lines

    def _set_ends(self, low: float | None, high: float | None) -> None:
        """Set the range of the gates, whose tables may be other ones then.

        Raises:
            ValueError: an end is not finite.
        """
        for name, value in (("low", low), ("high", high)):
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} must be finite, got {value!r}")
        with torch.device("cpu"):  # also while a model is created on the meta device
            self.gates.set_range(low, high)
