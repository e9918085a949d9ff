"""What the gates of a neuron say of it."""

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
