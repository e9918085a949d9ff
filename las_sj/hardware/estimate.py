"""What the traffic of a placed network asks of each core, and what that costs, in closed form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from las_sj.analysis import SpikeMonitor
from las_sj.hardware.core_loads import CoreLoads
from las_sj.hardware.placement import NeuronSlice, Placement, WeightSlice

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class Route:
    """Where the spikes of a slice of neurons go.

    Attributes:
        source: core of the neurons.
        targets: cores that each spike comes to, as one message.
        events: synaptic events of a spike at each of them.
    """

    source: int
    targets: tuple[int, ...]
    events: tuple[float, ...]


def routes_of(placement: Placement, fan_outs: Mapping[str, float]) -> list[Route]:
    """A route for each slice of neurons, in the order of the placement.

    Spikes that come to weights go to all cores of their rows. Others, into products and neurons, go to one core: that
    of the population which follows, where its first neurons lie.

    Args:
        placement: where everything lies.
        fan_outs: synaptic events of a spike that comes to no weights, by population; 1 where it is not named.
    """
    layers: dict[str, list[WeightSlice]] = {}
    for weights in placement.weights:
        layers.setdefault(weights.layer, []).append(weights)
    fed = {population.name: population.layers for population in placement.populations}
    following = _following(placement)
    routes = []
    for piece in placement.neurons:
        found = [each for name in fed[piece.population] for each in layers[name] if _reaches(piece, each)]
        if found:
            events: dict[int, float] = {}
            for each in found:
                events[each.core] = events.get(each.core, 0.0) + each.columns[1] - each.columns[0]
            routes.append(Route(piece.core, tuple(events), tuple(events.values())))
        else:
            fan_out = fan_outs.get(piece.population, 1.0)
            routes.append(Route(piece.core, (following[piece.population],), (fan_out,)))
    return routes


def _reaches(source: NeuronSlice, weights: WeightSlice) -> bool:
    return weights.rows[0] <= source.neurons[0] < weights.rows[1]


def _following(placement: Placement) -> dict[str, int]:
    """The core of the first neurons of the population after each; of the last, its own."""
    first: dict[str, int] = {}
    for piece in placement.neurons:
        first.setdefault(piece.population, piece.core)
    names = [population.name for population in placement.populations]
    return {name: first[after] for name, after in zip(names, [*names[1:], *names[-1:]], strict=True)}


def fan_outs_of(monitor: SpikeMonitor) -> dict[str, float]:
    """Synaptic events of a spike that comes to no weights, by site: fixed, or the mean over live partners.

    Operations that read the spikes of another one's neurons are counted with those neurons.
    """
    fan_outs = {}
    read = {id(readings.site.node): readings for readings in monitor.readings.values()}
    for name, counts in monitor.sites.items():
        operations = sum((each.fan_out or 0) * counts.spikes for each in counts.site.synapses)
        operations += counts.synaptic_operations
        readings = read.get(id(counts.site.node))
        operations += 0 if readings is None else readings.synaptic_operations
        fan_outs[name] = operations / counts.spikes if counts.spikes else 1.0
    return fan_outs


class Loads:
    """From messages by slice and step to what each core has to do.

    Args:
        placement: where everything lies.
        routes: as `routes_of` returns.
    """

    def __init__(self, placement: Placement, routes: Sequence[Route]) -> None:
        self.placement, self.routes = placement, routes
        self.mesh = placement.chip.mesh.with_cores(len(placement.cores))
        self.cores = len(placement.cores)
        self.neurons = np.zeros(self.cores, np.int64)
        for piece in placement.neurons:
            self.neurons[piece.core] += piece.size
        sources = np.array([route.source for route in routes])
        self._fired = self._matrix([(route.source,) for route in routes], [(1.0,) for _ in routes])
        self._out = self._matrix([(route.source,) for route in routes], [(len(route.targets),) for route in routes])
        self._in = self._matrix([route.targets for route in routes], [(1.0,) * len(route.targets) for route in routes])
        self._events = self._matrix([route.targets for route in routes], [route.events for route in routes])
        hops = [self.mesh.hops(source, np.array(route.targets)) for source, route in zip(sources, routes, strict=True)]
        self._east_west = np.array([int(across.sum()) for across, _ in hops])
        self._north_south = np.array([int(along.sum()) for _, along in hops])
        used = [core for core, held in enumerate(placement.cores) if held.neurons]
        self.tiles = len(np.unique(self.mesh.tiles_of(np.array(used))))

    def _matrix(self, cores: Sequence[Sequence[int]], values: Sequence[Sequence[float]]) -> csr_array:
        """Sparse [cores, slices]."""
        rows = [core for found in cores for core in found]
        columns = [index for index, found in enumerate(cores) for _ in found]
        flat = [value for found in values for value in found]
        return coo_array((flat, (rows, columns)), shape=(self.cores, len(self.routes))).tocsr()

    def of(self, messages: Counts) -> CoreLoads:
        """What each core has to do.

        Every neuron is read and updated in each step: on which steps nothing comes to it is not looked at.

        Args:
            messages: of each slice in each step, [slices, steps].
        """
        steps, totals = messages.shape[1], messages.sum(1)
        return CoreLoads(
            neurons=self.neurons,
            updates=np.broadcast_to(self.neurons, (steps, self.cores)),
            events=_whole(self._events @ messages),
            messages_in=_whole(self._in @ messages),
            messages_out=_whole(self._out @ messages),
            hops_east_west=round(float(totals @ self._east_west)),
            hops_north_south=round(float(totals @ self._north_south)),
            tiles=self.tiles,
            fired=_whole(self._fired @ messages),
        )


def _whole(counts: Counts) -> NDArray[np.int64]:
    """[cores, steps] to whole numbers [steps, cores]."""
    return np.rint(counts.T).astype(np.int64)
