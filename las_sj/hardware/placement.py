"""Layers of weights, populations of neurons, and where they lie on the cores of a chip."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from las_sj.hardware.chip import Chip

FITS = "none"  # of the limits binds: all of it lies on one core


@dataclass(frozen=True)
class Layer:
    """Dense weights, of one token.

    Args:
        name: of the layer.
        rows: source neurons, C.
        columns: target neurons, F.

    Raises:
        ValueError: there are no rows, or no columns.
    """

    name: str
    rows: int
    columns: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"{self.name} has {self.rows} rows and {self.columns} columns: both must be at least 1")

    @property
    def synapses(self) -> int:
        """C·F."""
        return self.rows * self.columns


@dataclass(frozen=True)
class Population:
    """Neurons of one site, of one token; further tokens take their turn on the same neurons.

    Args:
        name: of the site.
        neurons: how many.
        layers: names of the layers that their spikes come to through weights.
        table_bits: of memory, once for each core that holds some of them.
        state_bits: of memory for each neuron besides its membrane potential: keys and values of earlier tokens.
        targets: names of the populations that spikes come to otherwise, into products and neurons.
        fan_out: synaptic events of such a spike, as is expected.
        drivers: names of layers whose columns' sums come to them.
        columns: of their only driver, whose accumulators they are, one for each neuron; none of what is more than that.
        parts: into how many equal ones the neurons fall, such as heads.

    Raises:
        ValueError: there are no neurons, a number is negative, or columns are too few or of no single driver.
    """

    name: str
    neurons: int
    layers: tuple[str, ...] = ()
    table_bits: int = 0
    state_bits: int = 0
    targets: tuple[str, ...] = ()
    fan_out: float = 1.0
    drivers: tuple[str, ...] = ()
    columns: tuple[int, ...] = ()
    parts: int = 1

    def __post_init__(self) -> None:
        if self.neurons < 1 or min(self.table_bits, self.state_bits) < 0:
            raise ValueError(f"{self.name} needs neurons, and no negative number of bits")
        if self.columns and (len(self.columns) != self.neurons or len(self.drivers) != 1):
            raise ValueError(f"{self.name} needs a column of one layer for each of {self.neurons} neurons, or none")


@dataclass(frozen=True)
class WeightSlice:
    """Part of a layer on one core.

    Attributes:
        layer: its name.
        core: number of the core.
        rows, columns: which of them, from one to before another.
    """

    layer: str
    core: int
    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def synapses(self) -> int:
        """How many weights."""
        return (self.rows[1] - self.rows[0]) * (self.columns[1] - self.columns[0])


def cores_of_columns(pieces: Iterable[WeightSlice]) -> list[int]:
    """Where the sum of each column of a layer is, [F], given its slices in order: if rows are split, with the first."""
    return [piece.core for piece in pieces if piece.rows[0] == 0 for _ in range(*piece.columns)]


@dataclass(frozen=True)
class NeuronSlice:
    """Part of a population on one core.

    Attributes:
        population: its name.
        core: number of the core.
        neurons: which of them, from one to before another.
    """

    population: str
    core: int
    neurons: tuple[int, int]

    @property
    def size(self) -> int:
        """How many neurons."""
        return self.neurons[1] - self.neurons[0]


@dataclass
class Core:
    """What lies on a core.

    Attributes:
        neurons: accumulators of columns, and neurons of populations that are none.
        memory_bits: weights, tables and states.
        axons_in: sources that messages come from; one for each neuron of a population that is not a column.
        axons_out: pairs of a neuron and a core that its spikes go to; of a target without weights, one core.
        tables: populations whose tables are there.
    """

    neurons: int = 0
    memory_bits: int = 0
    axons_in: int = 0
    axons_out: int = 0
    tables: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Placement:
    """Where everything lies.

    Attributes:
        chip: what it is placed on.
        layers, populations: what was placed.
        weights: slices of the layers.
        neurons: slices of the populations.
        cores: what each core holds.
        binding: the limit that makes each layer and population need as many cores as it does, by name.
        columns: names of populations whose neurons are the accumulators of a layer.
    """

    chip: Chip
    layers: tuple[Layer, ...]
    populations: tuple[Population, ...]
    weights: tuple[WeightSlice, ...]
    neurons: tuple[NeuronSlice, ...]
    cores: tuple[Core, ...]
    binding: dict[str, str]
    columns: frozenset[str] = frozenset()

    @property
    def chips(self) -> int:
        """How many chips the cores are of."""
        return max(1, math.ceil(len(self.cores) / self.chip.cores))

    @property
    def weight_cores(self) -> int:
        """Cores that hold weights."""
        return len({piece.core for piece in self.weights})

    @property
    def partial_sums(self) -> int:
        """Columns whose rows lie on several cores, so that their sums have to be sent on."""
        split = {piece.layer for piece in self.weights if piece.rows[0] > 0}
        return sum(layer.columns for layer in self.layers if layer.name in split)
