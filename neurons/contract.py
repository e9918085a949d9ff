"""What the author of a neuron defines; `WindowNode` does the rest: windows, step modes, kernels, counts, monitors."""

from collections.abc import Callable, Iterator
from ctypes import Structure

from torch import Tensor

from las_sj.neurons.counts import NodeCounts, WindowCounts
from las_sj.neurons.record import Recorder
from las_sj.neurons.seen_values import SeenValues


class NeuronContract:
    """The methods that make a neuron: of a subclass of `WindowNode`, which mixes this in.

    `exact`, `write_sum`, `write_train` and `spikes_of` must be defined; `with_gradient` where the neuron is trained
    through, `spike_scale` where trains are kept, `describe` where it has kernels. The others have defaults. All take
    membrane potentials, the sum of a window's input.

    Attributes:
        time_steps, backend, count_spikes, counts, recorder: as in `WindowNode`.
    """

    time_steps: int
    backend: str
    count_spikes: bool
    counts: NodeCounts
    recorder: Recorder | None

    @property
    def is_read(self) -> bool:
        """Whether somebody may read the membrane potential after a call."""
        raise NotImplementedError

    def exact(self, v: Tensor) -> Tensor:
        """The value that a neuron with membrane potential `v` stands for, [...] to [...]."""
        raise NotImplementedError

    def write_sum(self, v: Tensor, total: Tensor, counts: WindowCounts) -> None:
        """Write the sum of the spike train for membrane potential `v` ([...]) to `total`, of its shape.

        `counts` takes spikes, where `counts.counts_spikes`, and inputs out of range.
        """
        raise NotImplementedError

    def write_train(self, v: Tensor, train: Tensor, counts: WindowCounts) -> None:
        """Write the spike train for membrane potential `v` ([...]) to `train`, [T, ...]; counts as `write_sum` does."""
        raise NotImplementedError

    def spikes_of(self, v: Tensor) -> Tensor:
        """The spikes of neurons with membrane potential `v` ([B, ...]), as signed amplitudes: int16 [T, B, ...].

        0 is no spike. Binary spikes are 1; a spike of level j of a code with n levels, amplitude θ(t)(1 + j/n), is
        ±(n + j).
        """
        raise NotImplementedError

    def with_gradient(self, v: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """encode(v), with the neuron's surrogate gradient; without one, unless a subclass has it."""
        return encode(v.detach())

    def spike_scale(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """What a spike carries: α and a bias for each membrane potential `v` ([B, ...]).

        A spike at step t carries α·2^-t, or its multiple by the spike's level; α itself unless `amplitudes_halve`. The
        bias comes with step 1.
        """
        raise NotImplementedError

    @property
    def amplitudes_halve(self) -> bool:
        """Whether a spike carries half of what one carries a step earlier; else all carry the same."""
        return True

    @property
    def extends(self) -> bool:
        """Whether inputs out of range are coded as precisely as those in it."""
        return False

    @property
    def inside(self) -> float:
        """A membrane potential that lies in range."""
        return 0.0

    def count_out_of_range(self, v: Tensor) -> int:
        """How many of the membrane potentials `v` ([B, ...]) lie outside the range; none, unless there is one."""
        return 0

    def statistics(self) -> SeenValues:
        """What calibration keeps of membrane potentials: histogram and extremes, unless the neuron needs others."""
        return SeenValues()

    def calibrate(self, seen: SeenValues, headroom: float, upper_bound: float | None = None) -> None:
        """Set thresholds or a range for the values that calibration has seen; nothing, unless the neuron has some.

        Args:
            seen: statistics of the membrane potentials.
            headroom: ranges are this much larger than the largest value seen.
            upper_bound: the largest magnitude that can occur, where it is known beforehand.
        """

    def rows(self, v: Tensor) -> Tensor:
        """`v` as one row of elements; as rows of channels where a neuron's parameters are per channel."""
        return v.reshape(-1)

    @property
    def largest_level(self) -> int:
        """The largest magnitude that `spikes_of` returns."""
        return 1

    def kernel_tables(self, x: Tensor) -> list[Tensor] | None:
        """The tensors that compiled kernels read for inputs like `x`; None where torch runs the neuron."""
        return None

    def kernel_settings(self, x: Tensor) -> tuple[float, ...]:
        """What else the structure for the kernels depends on that may change."""
        return ()

    @property
    def operands(self) -> list[Tensor]:
        """The tensors that an operator of the node takes, in the order of its parameters or buffers."""
        return []

    @property
    def signature(self) -> str | None:
        """What makes another neuron with the same tables the same, as text; None where there is no operator for it."""
        return None

    def faults(self, *, of_layout: bool = False) -> Iterator[tuple[str, str]]:
        """Thresholds and tables that cannot be the neuron's: their names, and in words what is wrong with each.

        Args:
            of_layout: only those for which kernels would read other memory, by their type or shape.
        """
        return iter(())

    def describe(self, tables: list[Tensor], channels: int) -> Structure:
        """The structure of `kernels.structures` for the neuron, with these tables."""
        raise NotImplementedError
