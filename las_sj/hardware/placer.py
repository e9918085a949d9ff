"""Which neurons, weights and tables lie on which core: greedy, deterministic, and never over a limit."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from las_sj.hardware.chip import Chip
from las_sj.hardware.errors import PlacementError
from las_sj.hardware.placement import (
    FITS,
    Core,
    Layer,
    NeuronSlice,
    Placement,
    Population,
    WeightSlice,
    cores_of_columns,
)


def place(
    chip: Chip,
    layers: Iterable[Layer],
    populations: Iterable[Population] = (),
    weight_bits: int = 8,
    cores_per_layer: int = 1,
) -> Placement:
    """Place layers, each on cores of its own, then populations wherever there is room, in their order.

    A layer's columns are split; its rows where a core takes fewer axons, or a column has more weights than a core
    holds. A population that is the columns of a layer lies where they lie, if its tables and states have room there.
    Another is spread over the cores of its layers, or of the layers before it. What has no room there goes to the first
    core behind them that has some, and where none has, to new cores: how many chips that makes, the caller looks at.

    Args:
        chip: its limits.
        layers: in the order of the model.
        populations: likewise.
        weight_bits: of a weight.
        cores_per_layer: on how many cores a layer lies at least, where it has as many columns.

    Raises:
        PlacementError: something fits on no core whatever is done.
        ValueError: two have the same name, or a population names a layer or population that does not exist.
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
        named = {name for each in populations for name in (*each.layers, *each.drivers)}
        if unknown := named - {layer.name for layer in layers}:
            raise ValueError(f"populations name layers that are not there: {', '.join(sorted(unknown))}")
        if unknown := {name for each in populations for name in each.targets} - {each.name for each in populations}:
            raise ValueError(f"populations fire at others that are not there: {', '.join(sorted(unknown))}")
        if weight_bits < 1 or cores_per_layer < 1:
            raise ValueError("weight_bits and cores_per_layer must be at least 1")
        self.chip, self.layers, self.populations = chip, layers, populations
        self.weight_bits, self.cores_per_layer = weight_bits, cores_per_layer
        self.cores: list[Core] = []
        self.weights: list[WeightSlice] = []
        self.neurons: list[NeuronSlice] = []
        self.binding: dict[str, str] = {}
        self.slices_of: dict[str, list[WeightSlice]] = {}
        self.home: list[int] = []  # cores of the layers that were reached last
        self.columns: set[str] = set()

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
            frozenset(self.columns),
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
        """Put neurons where the columns are that they are, or else where there is room."""
        pieces = [piece for name in population.layers for piece in self.slices_of[name]]
        if pieces:
            self.home = sorted({piece.core for piece in pieces})
        if not (population.columns and self._take_columns(population, pieces)):
            self._spread(population, pieces)

    def _take_columns(self, population: Population, pieces: Sequence[WeightSlice]) -> bool:
        """Whether the cores of a population's columns have room for its tables and states, where it then lies."""
        cores = cores_of_columns(self.slices_of[population.drivers[0]])
        where = [cores[column] for column in population.columns]
        fanout = max(self._destinations(population, pieces, neuron) for neuron in range(population.neurons))
        for core, held in Counter(where).items():
            limits = self._limits(self.cores[core], population, fanout)
            if min(limits["axons out"], limits["memory"]) < held:
                return False
        first = 0
        while first < population.neurons:
            most = min(population.neurons, first + self._same_destinations(pieces, first))
            end = next((neuron for neuron in range(first, most) if where[neuron] != where[first]), most)
            self._add_neurons(population, where[first], (first, end), self._destinations(population, pieces, first))
            self.cores[where[first]].neurons -= end - first  # as columns, they were counted
            self.cores[where[first]].axons_in -= end - first  # and nothing comes to them but sums
            first = end
        self.columns.add(population.name)
        self.binding[population.name] = FITS
        return True

    def _spread(self, population: Population, pieces: Sequence[WeightSlice]) -> None:
        """Put equal parts on the cores at home, and what has no room there on the first ones behind that have."""
        share = math.ceil(population.neurons / max(len(self.home), 1))
        done, binds = 0, FITS
        for core in self.home if len(self.home) > 1 else ():
            done += self._fill(population, pieces, core, done, min(share, population.neurons - done))[0]
        core = self._next_open(self.home[0] if self.home else 0)
        while done < population.neurons:
            if core == len(self.cores):
                self.cores.append(Core())
            placed, limit = self._fill(population, pieces, core, done, population.neurons - done)
            done += placed
            if self.cores[core] == Core():
                raise PlacementError(
                    f"no core of {self.chip.name} holds one neuron of {population.name}, with its table of "
                    f"{population.table_bits:,} bits, {population.state_bits:,} bits of state and "
                    f"{self._destinations(population, pieces, done)} cores to fire at, for lack of {limit}: give a "
                    "smaller --context, convert with smaller tables (--hg-lines), or take another chip"
                )
            if done < population.neurons:
                binds, core = limit, self._next_open(core + 1)
        self.binding[population.name] = binds

    def _fill(
        self, population: Population, pieces: Sequence[WeightSlice], number: int, done: int, most: int
    ) -> tuple[int, str]:
        """Put neurons from `done` on onto a core; for how many there was room, and what there is no more of."""
        placed = 0
        while placed < most:
            fanout = self._destinations(population, pieces, done + placed)
            limits = self._limits(self.cores[number], population, fanout)
            limit, room = min(limits.items(), key=lambda item: item[1])
            room = min(room, most - placed, self._same_destinations(pieces, done + placed))
            if room <= 0:
                return placed, limit
            self._add_neurons(population, number, (done + placed, done + placed + room), fanout)
            placed += room
        return placed, FITS

    def _next_open(self, core: int) -> int:
        """The first core from that one on with a neuron left."""
        most = self.chip.neurons
        while core < len(self.cores) and most is not None and self.cores[core].neurons >= most:
            core += 1
        return core

    @staticmethod
    def _destinations(population: Population, pieces: Sequence[WeightSlice], neuron: int) -> int:
        """How many cores a neuron fires at: those of its rows, or one for each target."""
        if not pieces:
            return max(1, len(population.targets))
        return len({piece.core for piece in pieces if piece.rows[0] <= neuron < piece.rows[1]})

    @staticmethod
    def _same_destinations(pieces: Sequence[WeightSlice], neuron: int) -> int:
        """How many neurons from that one on fire at the same cores."""
        ends = [end for piece in pieces for end in piece.rows if end > neuron]
        return min(ends) - neuron if ends else 1 << 62

    def _limits(self, core: Core, population: Population, fanout: int) -> dict[str, int]:
        """How many more neurons of a population each limit of a core lets lie there."""
        chip = self.chip
        memory = _or_all(chip.synapse_bits, 1 << 62) - core.memory_bits
        memory -= 0 if population.name in core.tables else population.table_bits
        return {
            "neurons": _or_all(chip.neurons, 1 << 62) - core.neurons,
            "axons in": _or_all(chip.axons_in, 1 << 62) - core.axons_in,
            "axons out": (_or_all(chip.axons_out, 1 << 62) - core.axons_out) // max(fanout, 1),
            "memory": -1 if memory < 0 else memory // population.state_bits if population.state_bits else 1 << 62,
        }

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
