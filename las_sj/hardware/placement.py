"""Which neurons, weights and tables lie on which core: greedy, deterministic, and never over a limit."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from las_sj.hardware.chip import Chip
from las_sj.hardware.errors import PlacementError

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
        layers: names of the layers that their spikes come to through weights; others go to the next population.
        table_bits: of memory, once for each core that holds some of them.
        state_bits: of memory for each neuron besides its membrane potential: keys and values of earlier tokens.

    Raises:
        ValueError: there are no neurons, or a number is negative.
    """

    name: str
    neurons: int
    layers: tuple[str, ...] = ()
    table_bits: int = 0
    state_bits: int = 0

    def __post_init__(self) -> None:
        if self.neurons < 1 or min(self.table_bits, self.state_bits) < 0:
            raise ValueError(f"{self.name} needs neurons, and no negative number of bits")


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
        neurons: accumulators of columns, and neurons of populations.
        memory_bits: weights, tables and states.
        axons_in: sources that messages come from; one for each neuron of a population.
        axons_out: pairs of a neuron and a core that its spikes go to.
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
    """

    chip: Chip
    layers: tuple[Layer, ...]
    populations: tuple[Population, ...]
    weights: tuple[WeightSlice, ...]
    neurons: tuple[NeuronSlice, ...]
    cores: tuple[Core, ...]
    binding: dict[str, str]

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


def place(
    chip: Chip,
    layers: Iterable[Layer],
    populations: Iterable[Population] = (),
    weight_bits: int = 8,
    cores_per_layer: int = 1,
) -> Placement:
    """Place layers, each on cores of its own, then populations wherever there is room, in their order.

    A layer's columns are split; its rows where a core takes fewer axons, or a column has more weights than a core
    holds. A population lies on cores from those of its layers on. Where nothing has room, there are new cores: how
    many chips that makes, the caller looks at.

    Args:
        chip: its limits.
        layers: in the order of the model.
        populations: likewise.
        weight_bits: of a weight.
        cores_per_layer: on how many cores a layer lies at least, where it has as many columns.

    Raises:
        PlacementError: something fits on no core whatever is done.
        ValueError: two have the same name, or a population names a layer that does not exist.
    """
    placer = _Placer(chip, tuple(layers), tuple(populations), weight_bits, cores_per_layer)
    for layer in placer.layers:
        placer.place_layer(layer)
    for population in placer.populations:
        placer.place_population(population)
    return placer.placement()


class _Placer:
    """A placement in the making; arguments are those of `place`."""

    def __init__(
        self,
        chip: Chip,
        layers: tuple[Layer, ...],
        populations: tuple[Population, ...],
        weight_bits: int,
        cores_per_layer: int,
    ) -> None:
        for kind, found in (("layers", layers), ("populations", populations)):
            if len({each.name for each in found}) < len(found):
                raise ValueError(f"{kind} must have different names")
        if unknown := {name for each in populations for name in each.layers} - {layer.name for layer in layers}:
            raise ValueError(f"populations feed layers that are not there: {', '.join(sorted(unknown))}")
        if weight_bits < 1 or cores_per_layer < 1:
            raise ValueError("weight_bits and cores_per_layer must be at least 1")
        self.chip, self.layers, self.populations = chip, layers, populations
        self.weight_bits, self.cores_per_layer = weight_bits, cores_per_layer
        self.cores: list[Core] = []
        self.weights: list[WeightSlice] = []
        self.neurons: list[NeuronSlice] = []
        self.binding: dict[str, str] = {}
        self.slices_of: dict[str, list[WeightSlice]] = {}
        self.first = 0  # core that a population which feeds no weights is looked for a place from
        self.full_until = 0  # cores before that have no neuron left

    def placement(self) -> Placement:
        """What came of it."""
        return Placement(
            self.chip,
            self.layers,
            self.populations,
            tuple(self.weights),
            tuple(self.neurons),
            tuple(self.cores),
            self.binding,
        )

    def place_layer(self, layer: Layer) -> None:
        """Split a layer into pieces that fit, on new cores."""
        groups = self._row_groups(layer)
        rows = math.ceil(layer.rows / groups)
        limits = {
            "neurons": _or_all(self.chip.neurons, layer.columns),
            "synapse memory": _or_all(self.chip.synapse_bits, layer.synapses * self.weight_bits)
            // (rows * self.weight_bits),
            "cores per layer": math.ceil(layer.columns / self.cores_per_layer),
        }
        limit, columns = min(limits.items(), key=lambda item: item[1])
        binds = limit if columns < layer.columns else FITS
        self.binding[layer.name] = "axons in" if groups > 1 and self._axons_bind(layer) else binds
        self.slices_of[layer.name] = []
        for row in range(0, layer.rows, rows):
            for column in range(0, layer.columns, columns):
                self._add_weights(
                    layer, (row, min(row + rows, layer.rows)), (column, min(column + columns, layer.columns))
                )

    def _row_groups(self, layer: Layer) -> int:
        """Into how many parts the rows are split: no core takes more axons, or holds more weights of one column."""
        most = min(
            _or_all(self.chip.axons_in, layer.rows),
            _or_all(self.chip.synapse_bits, layer.rows * self.weight_bits) // self.weight_bits,
        )
        if most < 1 or _or_all(self.chip.neurons, 1) < 1:
            raise PlacementError(f"no core of {self.chip.name} holds one weight of {self.weight_bits} bits")
        return math.ceil(layer.rows / most)

    def _axons_bind(self, layer: Layer) -> bool:
        return self.chip.axons_in is not None and self.chip.axons_in < layer.rows

    def _add_weights(self, layer: Layer, rows: tuple[int, int], columns: tuple[int, int]) -> None:
        piece = WeightSlice(layer.name, len(self.cores), rows, columns)
        bits = piece.synapses * self.weight_bits
        self.cores.append(Core(neurons=columns[1] - columns[0], memory_bits=bits, axons_in=rows[1] - rows[0]))
        self.weights.append(piece)
        self.slices_of[layer.name].append(piece)

    def place_population(self, population: Population) -> None:
        """Put neurons on the first cores that have room, from those of the population's layers on."""
        pieces = [piece for name in population.layers for piece in self.slices_of[name]]
        if pieces:
            self.first = min(piece.core for piece in pieces)
        done, core, binds = 0, self._next_open(self.first), FITS
        while done < population.neurons:
            if core == len(self.cores):
                self.cores.append(Core())
            fanout = self._destinations(pieces, done)
            limit, room = self._room(self.cores[core], population, fanout, population.neurons - done)
            if room == 0 and self.cores[core] == Core():
                raise PlacementError(
                    f"no core of {self.chip.name} holds one neuron of {population.name}, with its table of "
                    f"{population.table_bits:,} bits, {population.state_bits:,} bits of state and {fanout} cores that "
                    f"it fires at, for lack of {limit}: give a smaller --context, convert with smaller tables "
                    "(--hg-lines), or take another chip"
                )
            room = min(room, self._same_destinations(pieces, done))
            if room:
                self._add_neurons(population, core, (done, done + room), fanout)
                done += room
            if done < population.neurons and not self._room(self.cores[core], population, fanout, 1)[1]:
                binds, core = limit, self._next_open(core + 1)
        self.binding[population.name] = binds

    def _next_open(self, core: int) -> int:
        """The first core from that one on with a neuron left."""
        most = self.chip.neurons
        while core < len(self.cores) and most is not None and self.cores[core].neurons >= most:
            core += 1
        return core

    @staticmethod
    def _destinations(pieces: Sequence[WeightSlice], neuron: int) -> int:
        """How many cores a neuron fires at."""
        return len({piece.core for piece in pieces if piece.rows[0] <= neuron < piece.rows[1]}) if pieces else 1

    @staticmethod
    def _same_destinations(pieces: Sequence[WeightSlice], neuron: int) -> int:
        """How many neurons from that one on fire at the same cores."""
        ends = [end for piece in pieces for end in piece.rows if end > neuron]
        return min(ends) - neuron if ends else 1 << 62

    def _room(self, core: Core, population: Population, fanout: int, wanted: int) -> tuple[str, int]:
        """How many neurons of a population a core has room for, and what there are no more of."""
        chip = self.chip
        memory = _or_all(chip.synapse_bits, 1 << 62) - core.memory_bits
        memory -= 0 if population.name in core.tables else population.table_bits
        room = {
            "neurons": _or_all(chip.neurons, 1 << 62) - core.neurons,
            "axons in": _or_all(chip.axons_in, 1 << 62) - core.axons_in,
            "axons out": (_or_all(chip.axons_out, 1 << 62) - core.axons_out) // max(fanout, 1),
            "memory": -1 if memory < 0 else memory // population.state_bits if population.state_bits else 1 << 62,
        }
        limit, most = min(room.items(), key=lambda item: item[1])
        return limit, max(0, min(most, wanted))

    def _add_neurons(self, population: Population, number: int, neurons: tuple[int, int], fanout: int) -> None:
        piece, core = NeuronSlice(population.name, number, neurons), self.cores[number]
        core.neurons += piece.size
        core.axons_in += piece.size
        core.axons_out += piece.size * fanout
        core.memory_bits += piece.size * population.state_bits
        if population.table_bits and population.name not in core.tables:
            core.memory_bits += population.table_bits
            core.tables.add(population.name)
        self.neurons.append(piece)


def _or_all(limit: int | None, all_of_them: int) -> int:
    """A limit, or as much as could be asked for where there is none."""
    return all_of_them if limit is None else limit
