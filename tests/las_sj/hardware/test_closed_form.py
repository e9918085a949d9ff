"""Energy and time by closed form, held against hand-computed figures and against a loop over single spikes."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from las_sj.hardware.closed_form import ClosedForm, closed_form
from las_sj.hardware.connection import Connection
from las_sj.hardware.core_loads import core_loads
from las_sj.hardware.costs import EventCosts
from las_sj.hardware.mesh import Mesh

MESH = Mesh(3, 2, 2)
COSTS = EventCosts(
    "made up",
    synaptic_event_pj=35.5,
    synaptic_event_ns=3.8,
    dendrite_update_pj=0.5,
    dendrite_update_ns=0.25,
    neuron_access_pj=51.2,
    neuron_access_ns=6.0,
    neuron_update_pj=21.6,
    neuron_update_ns=3.7,
    spike_out_pj=69.3,
    spike_out_ns=30.0,
    message_out_pj=111.0,
    message_out_ns=5.1,
    message_in_pj=7.0,
    message_in_ns=16.0,
    hop_east_west_pj=3.0,
    hop_east_west_ns=4.1,
    hop_north_south_pj=4.2,
    hop_north_south_ns=6.5,
    barrier=((1, 0.6e-6), (2, 1.0e-6), (4, 1.4e-6)),
)


def connection(fired: list[list[int]], sources: list[int], targets: list[int], name: str = "layer") -> Connection:
    return Connection(name, np.array(fired, dtype=bool), np.array(sources), np.array(targets))


def test_by_hand() -> None:
    # Core 0 lies in tile 0 at (0, 0); core 3 in tile 1 at (0, 1); core 11 in tile 5 at (2, 1).
    found = closed_form([connection([[1, 1], [0, 0], [0, 1]], [0, 3], [3, 11, 11])], COSTS, MESH)
    spikes, messages, steps, targets = 3, 6, 3, 3
    assert found.loads.hops_east_west == 3 * 2  # each spike goes to core 11 once
    assert found.loads.hops_north_south == 1 * 2  # that of core 0, to both
    assert found.loads.tiles == 3
    assert found.energy_pj == pytest.approx(
        {
            "synapse": spikes * targets * 35.5,
            "dendrite": spikes * targets * 0.5,
            "soma": steps * targets * 51.2 + 3 * 21.6,
            "network": messages * (111.0 + 7.0) + 6 * 3.0 + 2 * 4.2,
        },
        rel=1e-12,
    )
    event = 3.8 + 0.25
    assert found.step_seconds is not None
    assert found.step_seconds * 1e9 == pytest.approx(
        # Core 11 gets 2 messages for 2 neurons, then only updates them, then gets 1: somas take 12, 19.4 and 12 ns.
        [2 * 16 + 4 * event + 1000, 2 * (6.0 + 3.7) + 1000, 16 + 2 * event + 1000],
        rel=1e-12,
    )
    assert found.slowest is not None
    assert found.slowest.tolist() == [11, 11, 11]
    assert found.seconds == pytest.approx(found.step_seconds.sum())
    assert found.total_pj == pytest.approx(sum(value for value in found.energy_pj.values() if value is not None))


def test_sending_can_be_the_slowest() -> None:
    # One neuron of core 0 to ten others: sending takes 10 × 5.1 ns, receiving 16 + 3.8 + 0.25.
    found = closed_form([connection([[1]], [0], list(range(1, 11)))], COSTS, MESH)
    assert found.step_seconds is not None
    assert found.slowest is not None
    assert found.step_seconds[0] * 1e9 == pytest.approx(51.0 + 1400)
    assert found.slowest.tolist() == [0]


def test_shorter_trains_end_in_silence() -> None:
    long, short = connection([[0], [1], [0]], [0], [2]), connection([[1]], [0], [2])
    loads = core_loads([long, short], MESH)
    assert loads.events[:, 2].tolist() == [1, 1, 0]
    assert loads.updates[:, 2].tolist() == [0, 1, 1]
    assert loads.neurons[2] == 2


def test_what_is_not_published_is_not_zero() -> None:
    found = closed_form([connection([[1]], [0], [1])], replace(COSTS, hop_east_west_pj=None), MESH)
    assert found.energy_pj["network"] is None
    assert found.energy_pj["synapse"] is not None
    assert found.total_pj is None
    assert found.step_seconds is not None
    none = closed_form([connection([[1]], [0], [1])], EventCosts("nobody"), MESH)
    assert set(none.energy_pj.values()) == {None}
    assert (none.step_seconds, none.seconds, none.slowest) == (None, None, None)


@st.composite
def placed(draw: st.DrawFn) -> list[Connection]:
    def of(name: str) -> Connection:
        steps, width, neurons = (draw(st.integers(1, most)) for most in (4, 5, 6))
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        fired = rng.random((steps, width)) < draw(st.sampled_from([0.0, 0.3, 1.0]))
        cores = draw(st.integers(1, MESH.cores))
        return Connection(name, fired, rng.integers(0, cores, width), rng.integers(0, cores, neurons))

    return [of(str(number)) for number in range(draw(st.integers(1, 3)))]


def one_by_one(connections: list[Connection]) -> tuple[dict[str, float], list[float]]:
    """Energy and step times, one spike and one neuron after another."""
    steps = max(each.steps for each in connections)
    energy = dict.fromkeys(("synapse", "dendrite", "soma", "network"), 0.0)
    times = []
    used = {int(core) for each in connections for core in (*each.source_cores, *each.target_cores)}
    barrier = 0.6e-6
    for least, seconds in ((2, 1.0e-6), (4, 1.4e-6)):
        barrier = seconds if len({core // 2 for core in used}) >= least else barrier
    for step in range(steps):
        neurons: defaultdict[int, float] = defaultdict(float)
        messages: defaultdict[int, float] = defaultdict(float)
        for each in connections:
            before = 0 < step <= each.steps and each.fired[step - 1].any()
            for core in each.target_cores.tolist():
                energy["soma"] += 51.2 + 21.6 * before
                neurons[core] += 6.0 + 3.7 * before
            for neuron in np.flatnonzero(each.fired[step]) if step < each.steps else ():
                source = int(each.source_cores[neuron])
                for core in set(each.target_cores.tolist()):
                    reached = int((each.target_cores == core).sum())
                    x, y = (abs(a - b) for a, b in zip(divmod(source // 2, 2), divmod(core // 2, 2), strict=True))
                    energy["network"] += 111.0 + 7.0 + 3.0 * x + 4.2 * y
                    energy["synapse"] += 35.5 * reached
                    energy["dendrite"] += 0.5 * reached
                    neurons[source] += 5.1
                    messages[core] += 16 + (3.8 + 0.25) * reached
        times.append(max(*neurons.values(), *messages.values(), 0) * 1e-9 + barrier)
    return energy, times


@settings(deadline=None, max_examples=60)
@given(connections=placed())
def test_any_placement(connections: list[Connection]) -> None:
    energy, times = one_by_one(connections)
    found = closed_form(connections, COSTS, MESH)
    assert found.energy_pj == pytest.approx(energy, rel=1e-9)
    assert found.step_seconds == pytest.approx(times, rel=1e-9)


def test_a_dropped_spike_is_seen() -> None:
    rng = np.random.default_rng(0)
    whole = Connection("layer", rng.random((8, 20)) < 0.3, rng.integers(0, 12, 20), rng.integers(0, 12, 30))
    fired = whole.fired.copy()
    fired[tuple(np.argwhere(fired)[7])] = False
    figures: list[ClosedForm] = [closed_form([each], COSTS, MESH) for each in (whole, replace(whole, fired=fired))]
    assert figures[0].energy_pj["synapse"] != figures[1].energy_pj["synapse"]
    assert figures[0].energy_pj["network"] != figures[1].energy_pj["network"]
    assert figures[0].loads.events.sum() - figures[1].loads.events.sum() == 30


@pytest.mark.parametrize(
    ("fired", "sources", "targets", "said"),
    [
        (np.ones((2, 2)), [0, 0], [1], "layer: fired must be bool"),
        (np.ones((0, 2), bool), [0, 0], [1], "layer: fired must be bool"),
        (np.ones((2, 2), bool), [0], [1], "layer: source_cores must have 2 entries, as fired has, got 1"),
        (np.ones((2, 2), bool), [0, 0], [-1], "layer: target_cores must be a row of integers of 0 or more"),
        (np.ones((2, 2), bool), [0.5, 0], [1], "layer: source_cores must be a row of integers"),
    ],
)
def test_bad_connections(fired: np.ndarray, sources: list[float], targets: list[int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Connection("layer", fired, np.array(sources), np.array(targets))


def test_no_connection() -> None:
    with pytest.raises(ValueError, match="connections must be at least one"):
        closed_form([], COSTS, MESH)


def test_mesh_grows_in_its_aspect() -> None:
    loihi = Mesh(8, 4, 4)
    assert loihi.with_cores(128) is loihi
    assert loihi.with_cores(129) == Mesh(10, 5, 4)
    assert loihi.with_cores(1087).cores >= 1087
    with pytest.raises(ValueError, match="height of a mesh must be 1 or more, got 0"):
        Mesh(8, 0, 4)
