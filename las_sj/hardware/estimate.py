"""What the traffic of a placed network asks of each core, and what that costs, in closed form."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from las_sj.hardware.core_loads import CoreLoads
from las_sj.hardware.placement import Placement
from las_sj.hardware.routes import Current, Route

Counts = NDArray[np.float64]


class Loads:
    """From messages by slice and step to what each core has to do.

    Args:
        placement: where everything lies.
        routes: as `routes_of` returns.
        currents: as `currents_of` returns.
        window: time steps after which currents are sent, together: T, or 1 of neurons that fire as they are driven.
    """

    def __init__(
        self, placement: Placement, routes: Sequence[Route], currents: Sequence[Current] = (), window: int = 1
    ) -> None:
        self.placement, self.routes, self.currents, self.window = placement, routes, currents, window
        self.cores = len(placement.cores)
        self.neurons = np.array([core.neurons for core in placement.cores])
        sources = [(route.source,) for route in routes]
        copies = [sum(route.messages) for route in routes]
        self.copies = np.array(copies)
        self._fired = self._matrix(sources, [(1.0,) for _ in routes])
        self._out = self._matrix(sources, [(number,) for number in copies])
        self._in = self._matrix([route.targets for route in routes], [route.messages for route in routes])
        self._events = self._matrix([route.targets for route in routes], [route.events for route in routes])
        self._weighted = np.array([route.is_weighted for route in routes])
        self._hops = [
            _hops(placement, [route.source], route.targets, route.messages) for route in routes
        ]  # of a spike of each slice
        self._sums_out, self._sums_in = np.zeros((2, self.cores))
        for current in currents:
            self._sums_out[current.source] += current.sums
            self._sums_in[current.target] += current.sums
        self._hops_of_sums = _hops(
            placement,
            [each.source for each in currents],
            [each.target for each in currents],
            [each.sums for each in currents],
        )
        used = [core for core, held in enumerate(placement.cores) if held.neurons]
        self.tiles = len(np.unique(placement.chip.mesh.with_cores(self.cores).tiles_of(np.array(used))))

    def _matrix(self, cores: Sequence[Sequence[int]], values: Sequence[Sequence[float]]) -> csr_array:
        """Sparse [cores, slices]."""
        rows = [core for found in cores for core in found]
        columns = [index for index, found in enumerate(cores) for _ in found]
        flat = [value for found in values for value in found]
        return coo_array((flat, (rows, columns)), shape=(self.cores, len(self.routes))).tocsr()

    def fan_outs(self, measured: Mapping[str, float]) -> Counts:
        """What the events of each slice's spikes are multiplied with, [slices]: 1 of weights, else the fan-out."""
        expected = {population.name: population.fan_out for population in self.placement.populations} | {**measured}
        return np.array([1.0 if route.is_weighted else expected[route.population] for route in self.routes])

    def events_of_spikes(self, fan_outs: Counts) -> Counts:
        """Synaptic events of one spike of each slice, [slices]."""
        return np.array([sum(route.events) for route in self.routes]) * fan_outs

    def of(self, messages: Counts, fan_outs: Counts) -> CoreLoads:
        """What each core has to do.

        Every neuron and accumulator is read and updated in each step: on which steps nothing comes to it is not looked
        at.

        Args:
            messages: spikes of each slice in each step, [slices, steps].
            fan_outs: as the method of that name returns.
        """
        steps, totals = messages.shape[1], messages.sum(1)
        sent = (np.arange(1, steps + 1) % self.window == 0).astype(np.float64)
        across, along = np.array(self._hops).reshape(-1, 2).T
        across_sums, along_sums = (each * sent.sum() for each in self._hops_of_sums)
        return CoreLoads(
            neurons=self.neurons,
            updates=np.broadcast_to(self.neurons, (steps, self.cores)),
            events=(self._events @ (messages * fan_outs[:, None])).T + np.outer(sent, self._sums_in),
            messages_in=(self._in @ messages).T + np.outer(sent, self._sums_in),
            messages_out=(self._out @ messages).T + np.outer(sent, self._sums_out),
            hops_east_west=float(totals @ across + across_sums),
            hops_north_south=float(totals @ along + along_sums),
            tiles=self.tiles,
            fired=(self._fired @ messages).T,
        )


def _hops(
    placement: Placement, sources: Sequence[int], targets: Sequence[int], messages: Sequence[float]
) -> tuple[float, float]:
    """Steps from tile to tile that messages take, east or west and north or south."""
    mesh = placement.chip.mesh.with_cores(len(placement.cores))
    across, along = mesh.hops(np.array(sources, np.int64), np.array(targets, np.int64))
    sent = np.array(messages, np.float64)
    return float(across @ sent), float(along @ sent)
