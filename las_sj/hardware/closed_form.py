"""Energy and time of a chip by closed form, as SANA-FE's "simple" timing has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from las_sj.hardware.connection import Connection
from las_sj.hardware.core_loads import CoreLoads, core_loads
from las_sj.hardware.costs import EventCosts
from las_sj.hardware.mesh import Mesh

COMPONENTS = ("synapse", "dendrite", "soma", "network")


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """Energy and time of a replay.

    Energy is events × (synapse, dendrite) + accesses, updates and spikes of neurons (soma) + messages out and in + hops
    (network). A step takes as long as its slowest core, and the barrier. A core is as slow as the longer of two queues:

        neurons × access + updates × update + fired × spike out + messages out × message out
        messages in × message in + events × (synapse + dendrite)

    Source neurons are trains without a soma of their own: what fires on a chip is the target of an earlier layer.

    Attributes:
        loads: what each core has to do in each step.
        energy_pj: by component (`COMPONENTS`); None where a cost of it is not published.
        step_seconds: [steps], or None where a time is not published.
        slowest: number of the core for which each step waits, [steps]; the lowest of those that are equally slow.
    """

    loads: CoreLoads
    energy_pj: dict[str, float | None]
    step_seconds: NDArray[np.float64] | None
    slowest: NDArray[np.int64] | None

    @property
    def total_pj(self) -> float | None:
        """Energy of all components; None where one of them is not published."""
        return total_of(self.energy_pj)

    @property
    def seconds(self) -> float | None:
        """Time of all steps; None where it is not published."""
        return None if self.step_seconds is None else float(self.step_seconds.sum())


def total_of(energy_pj: Mapping[str, float | None]) -> float | None:
    """Energy of all components, pJ; None where one of them is not published."""
    parts = [value for value in energy_pj.values() if value is not None]
    return sum(parts) if len(parts) == len(energy_pj) else None


def closed_form(connections: Sequence[Connection], costs: EventCosts, mesh: Mesh) -> ClosedForm:
    """Energy and time of connections that run in step on one chip.

    Raises:
        ValueError: there is no connection.
    """
    return of_loads(core_loads(connections, mesh), costs)


def of_loads(loads: CoreLoads, costs: EventCosts) -> ClosedForm:
    """Energy and time of what each core has to do in each step."""
    seconds, slowest = _steps(loads, costs)
    return ClosedForm(loads, _energy(loads, costs), seconds, slowest)


def _energy(loads: CoreLoads, costs: EventCosts) -> dict[str, float | None]:
    events, steps = float(loads.events.sum()), len(loads.events)
    messages = float(loads.messages_out.sum())
    return {
        "synapse": _sum((events, costs.synaptic_event_pj)),
        "dendrite": _sum((events, costs.dendrite_update_pj)),
        "soma": _sum(
            (int(loads.neurons.sum()) * steps, costs.neuron_access_pj),
            (int(loads.updates.sum()), costs.neuron_update_pj),
            (float(loads.fired.sum()), costs.spike_out_pj),
        ),
        "network": _sum(
            (messages, costs.message_out_pj),
            (messages, costs.message_in_pj),
            (loads.hops_east_west, costs.hop_east_west_pj),
            (loads.hops_north_south, costs.hop_north_south_pj),
        ),
    }


def _sum(*counted: tuple[float, float | None]) -> float | None:
    """Counts times costs; None where one cost is not published, however small its count."""
    parts = [count * cost for count, cost in counted if cost is not None]
    return sum(parts) if len(parts) == len(counted) else None


def _steps(loads: CoreLoads, costs: EventCosts) -> tuple[NDArray[np.float64] | None, NDArray[np.int64] | None]:
    """Seconds of each step, and the core for which it waits."""
    barrier = costs.barrier_seconds(loads.tiles)
    parts = (
        costs.neuron_access_ns,
        costs.neuron_update_ns,
        costs.spike_out_ns,
        costs.message_out_ns,
        costs.message_in_ns,
        costs.synaptic_event_ns,
        costs.dendrite_update_ns,
    )
    published = [part for part in parts if part is not None]
    if barrier is None or len(published) < len(parts):
        return None, None
    access, update, fire, out, into, event, dendrite = published
    neurons = loads.neurons * access + loads.updates * update + loads.fired * fire + loads.messages_out * out
    messages = loads.messages_in * into + loads.events * (event + dendrite)
    busy = np.maximum(neurons, messages)
    return busy.max(1) * 1e-9 + barrier, busy.argmax(1)
