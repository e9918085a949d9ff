"""What each core has to do in each step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from las_sj.hardware.connection import Connection
from las_sj.hardware.mesh import Mesh

Counts = NDArray[np.int64]
Work = NDArray[np.int64] | NDArray[np.float64]  # counted, or expected where slices of neurons are counted together


@dataclass(frozen=True, eq=False)
class CoreLoads:
    """Work by step and core, from which time and energy follow: [steps, K] for cores 0 … K − 1 where not said.

    Attributes:
        neurons: target neurons on each core, which are accessed in every step, [K].
        updates: of those, the ones that got a message in the step before.
        events: synaptic events.
        messages_in: messages that a core receives; one that stays within a core counts too.
        messages_out: messages that a core sends: a spike is one message for each core that it goes to.
        hops_east_west, hops_north_south: steps from tile to tile of all messages together.
        tiles: how many tiles have a neuron, and so take part in the barrier.
        fired: neurons on a core that fire; 0 of trains that are replayed, which have no soma.
    """

    neurons: Counts
    updates: Counts
    events: Work
    messages_in: Work
    messages_out: Work
    hops_east_west: float
    hops_north_south: float
    tiles: int
    fired: Work

    @property
    def hops(self) -> float:
        """Steps from tile to tile, in every direction."""
        return self.hops_east_west + self.hops_north_south


def core_loads(connections: Sequence[Connection], mesh: Mesh) -> CoreLoads:
    """Count what connections that run in step ask of each core; trains that are shorter than others end in silence.

    Raises:
        ValueError: there is no connection.
    """
    if not connections:
        raise ValueError("connections must be at least one")
    steps = max(connection.steps for connection in connections)
    used = np.unique(np.concatenate([np.r_[each.source_cores, each.target_cores] for each in connections]))
    cores = int(used[-1]) + 1
    neurons = np.zeros(cores, np.int64)
    updates, events, messages_in, messages_out = (np.zeros((steps, cores), np.int64) for _ in range(4))
    east_west = north_south = 0
    for connection in connections:
        sent = _by_core(connection, steps, cores)
        received = sent.sum(1)
        targets = np.bincount(connection.target_cores, minlength=cores)
        goes_to = targets > 0
        neurons += targets
        updates[1:] += np.outer(received[:-1] > 0, targets)
        events += np.outer(received, targets)
        messages_in += np.outer(received, goes_to)
        messages_out += sent * int(goes_to.sum())
        sources = np.flatnonzero(sent.sum(0))
        across, along = mesh.hops(sources[:, None], connection.destinations[None, :])
        east_west += int(sent.sum(0)[sources] @ across.sum(1))
        north_south += int(sent.sum(0)[sources] @ along.sum(1))
    tiles = len(np.unique(mesh.tiles_of(used)))
    fired = np.zeros_like(events)
    return CoreLoads(neurons, updates, events, messages_in, messages_out, east_west, north_south, tiles, fired)


def _by_core(connection: Connection, steps: int, cores: int) -> Counts:
    """Spikes that leave each core in each step, [steps, K]."""
    sent = np.zeros((steps, cores), np.int64)
    for core in np.unique(connection.source_cores):
        sent[: connection.steps, core] = connection.fired[:, connection.source_cores == core].sum(1)
    return sent
