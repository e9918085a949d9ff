"""Replays in SANA-FE, held against the counts of the trains, the closed form and a plain run of SANA-FE."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from las_sj.extras import MissingExtraError
from las_sj.hardware.architecture import architecture_of
from las_sj.hardware.chip_file import ChipFile, ChipFileError, installed_chip
from las_sj.hardware.closed_form import closed_form
from las_sj.hardware.connection import Connection
from las_sj.hardware.costs import EventCosts
from las_sj.hardware.mesh import Mesh
from las_sj.hardware.replay import Replay, replay, together
from las_sj.hardware.replay_job import PieceResult, ReplayError, run_piece

CHIP = Path(__file__).with_name("chip.yaml")
needs_sanafe = pytest.mark.skipif(find_spec("sanafe") is None, reason="SANA-FE is not installed")


def layer(name: str, steps: int, sources: list[int], targets: list[int], seed: int = 0) -> Connection:
    rng = np.random.default_rng(seed)
    fired = rng.random((steps, len(sources))) < 0.25
    fired[3] = False  # a silent step, after which no neuron is updated
    return Connection(name, fired, np.array(sources), np.array(targets))


# Two layers in a chain: the targets of the first lie where the sources of the second do.
PLACEMENTS = {
    "one core": [layer("a", 20, [0] * 40, [0] * 30)],
    "some cores": [layer("a", 20, [0] * 40, [1, 2] * 30), layer("b", 17, [1, 2] * 30, [9] * 20, seed=1)],
    "scattered": [
        layer("a", 20, list(range(40)), list(range(0, 120, 4))),
        layer("b", 17, list(range(0, 120, 4)), [*range(100, 140)], seed=1),
    ],
}


@cache
def replayed(placement: str, timing: str) -> Replay:
    return replay(PLACEMENTS[placement], timing=timing, progress=False)


def of_file(connections: list[Connection], path: Path, run: Replay) -> None:
    """Hold counts and energy against the trains and the closed form."""
    expected = closed_form(connections, EventCosts.from_sanafe(path), run.mesh)
    for counted, each in zip(run.layers, connections, strict=True):
        assert counted.name == each.name
        assert counted.synaptic_events == each.synaptic_events
        assert counted.messages == each.spikes * len(each.destinations)
    assert sum(counted.hops for counted in run.layers) == expected.loads.hops
    assert run.energy_pj == pytest.approx(expected.energy_pj, rel=1e-9)


@needs_sanafe
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_counts_energy_and_time(placement: str) -> None:
    connections = PLACEMENTS[placement]
    simple, detailed = replayed(placement, "simple"), replayed(placement, "detailed")
    of_file(connections, installed_chip(), simple)
    of_file(connections, installed_chip(), detailed)
    expected = closed_form(connections, EventCosts.from_sanafe(installed_chip()), simple.mesh).step_seconds
    assert simple.step_seconds == pytest.approx(expected, rel=1e-9)
    assert (detailed.step_seconds >= simple.step_seconds * (1 - 1e-12)).all()
    assert detailed.seconds > simple.seconds
    assert (simple.pieces, simple.widened) == (1, placement == "scattered")
    assert not {"sanafe", "sanafecpp"} & set(sys.modules), "SANA-FE is imported in a process of its own"


@needs_sanafe
def test_detailed_time_is_that_of_another_process() -> None:
    again = replay(PLACEMENTS["scattered"], timing="detailed", progress=False)
    assert again.step_seconds.tolist() == replayed("scattered", "detailed").step_seconds.tolist()


@needs_sanafe
def test_pieces_count_nothing_twice() -> None:
    whole, parts = (
        replayed("scattered", "simple"),
        replay(PLACEMENTS["scattered"], timing="simple", most_synapses=1000, progress=False),
    )
    assert parts.pieces == 3
    assert parts.layers == whole.layers
    assert parts.energy_pj == pytest.approx(whole.energy_pj, rel=1e-9)
    assert (parts.step_seconds <= whole.step_seconds * (1 + 1e-12)).all()
    assert parts.step_seconds.min() == pytest.approx(whole.step_seconds.min()), "the whole chip's barrier"


@needs_sanafe
def test_a_larger_chip() -> None:
    (given,) = PLACEMENTS["one core"]
    found = replay([replace(given, target_cores=given.target_cores + 5)], CHIP, "simple", cores=13, progress=False)
    assert (found.mesh, found.widened) == (Mesh(3, 4, 2), True)
    of_file([replace(given, target_cores=given.target_cores + 5)], CHIP, found)


@needs_sanafe
def test_a_core_with_more_neurons_than_a_unit(tmp_path: Path) -> None:
    path = tmp_path / "chip.yaml"
    text = CHIP.read_text(encoding="utf-8")
    path.write_text(text.replace("max_neurons_supported: 64", "max_neurons_supported: 1100"), "utf-8")
    chain = [layer("a", 5, [0, 1], [3] * 1100), layer("b", 5, [3] * 1100, [4, 5])]
    of_file(chain, path, replay(chain, path, timing="simple", progress=False))


@needs_sanafe
def test_a_dropped_spike_is_seen() -> None:
    (whole,) = PLACEMENTS["one core"]
    fired = whole.fired.copy()
    fired[tuple(np.argwhere(fired)[5])] = False
    found = replay([replace(whole, fired=fired)], timing="simple", progress=False)
    with pytest.raises(AssertionError):
        of_file([whole], installed_chip(), found)


@needs_sanafe
def test_agrees_with_a_plain_run_in_the_files_own_architecture(tmp_path: Path) -> None:
    given = layer("a", 20, [n % 10 for n in range(40)], [n % 11 for n in range(30)])
    found = replay([given], CHIP, timing="simple", progress=False)
    of_file([given], CHIP, found)
    trains = {"fired": given.fired, "source_cores": given.source_cores, "target_cores": given.target_cores}
    np.savez(tmp_path / "trains.npz", **trains)  # type: ignore[arg-type]
    program = Path(__file__).with_name("plain_replay.py")
    command = [sys.executable, "-P", str(program), str(CHIP), str(tmp_path / "trains.npz")]
    plain = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stderr)
    energy = {name: plain["energy"][name] * 1e12 for name in found.energy_pj}
    assert found.energy_pj == pytest.approx(energy, rel=1e-9)
    assert found.seconds == pytest.approx(plain["sim_time"], rel=1e-9)
    assert (found.layers[0].synaptic_events, found.layers[0].messages) == (plain["spikes"], plain["packets_sent"])


@needs_sanafe
def test_a_chip_without_costs() -> None:
    path = installed_chip("truenorth")
    costs = EventCosts.from_sanafe(path)
    assert len(costs.missing("_pj")) == len(costs.missing("_ns")) == 9
    assert costs.barrier_seconds(3) is None
    (given,) = PLACEMENTS["one core"]
    found = replay([given], path, progress=False)
    assert found.layers[0].synaptic_events == given.synaptic_events
    assert found.total_pj == found.seconds == 0


def when_it_runs(do: Callable[[int], None]) -> threading.Thread:
    """A thread that does something once this process has a child that replays."""

    def watch() -> None:
        for _ in range(3000):
            for children in Path("/proc/self/task").glob("*/children"):
                for child in children.read_text(encoding="utf-8").split():
                    if b"replay_process.py" in Path(f"/proc/{child}/cmdline").read_bytes():
                        return do(int(child))
            time.sleep(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@needs_sanafe
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the process in /proc")
@pytest.mark.parametrize("interrupted", [False, True], ids=["killed", "interrupted"])
def test_nothing_is_left_of_a_replay_that_ends_early(
    interrupted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[int] = []

    def end(child: int) -> None:
        seen.append(child)
        os.kill(os.getpid() if interrupted else child, signal.SIGINT if interrupted else signal.SIGKILL)

    thread = when_it_runs(end)
    with pytest.raises(KeyboardInterrupt if interrupted else ReplayError) as error:
        replay(PLACEMENTS["scattered"], progress=False)
    thread.join()
    assert interrupted or str(error.value).startswith("SANA-FE was killed, perhaps for want of memory")
    assert list(tmp_path.iterdir()) == []
    assert not Path(f"/proc/{seen[0]}").exists()


def test_spikes_that_the_engine_loses_are_seen() -> None:
    (given,) = PLACEMENTS["one core"]
    counts = np.array([[given.spikes, 0, given.synaptic_events - 30]])
    results = [({0: given}, PieceResult(counts, np.zeros(20), np.zeros(4)))]
    with pytest.raises(ReplayError, match="synaptic events of a, whose spikes cause"):
        together([given], results, "simple", Mesh(1, 1, 1), widened=False)


@needs_sanafe
def test_an_error_of_sanafe_is_its_last_line() -> None:
    architecture = architecture_of(ChipFile.read(CHIP), Mesh(2, 3, 2), {0: 40}, neurons=69)
    with pytest.raises(ReplayError, match=r"SANA-FE failed: .*Exceeded maximum neurons per core"):
        run_piece(PLACEMENTS["one core"], architecture, "simple", steps=20)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("architecture:", "architecture: [", "is not YAML: give an architecture file of SANA-FE"),
        ("architecture:", "chip:", "does not describe a chip: architecture is missing"),
        ("  synapse:", "  synapses:", "does not describe a chip: synapse is missing"),
        ("energy_process_spike: 29.0e-12", "energy_process_spike: much", "could not convert string to float: 'much'"),
        ("energy_message_in: 13.0e-12", "energy: 0", "energy_message_in is missing"),
        ("buffer_position: soma", "buffer_position: dendrite", "replays need cores with buffer_position soma"),
        ("tile[0..5]", "tile[0..4]", "2 × 3 tiles, but 5 are described"),
        ("energy_north_hop: 4.5e-12", "energy_north_hop: 1e-12", "a hop north and one south must have the same energy"),
        ("energy_access_neuron: 17.0e-12", "energy_access_neuron: -1.0", "energy_access_neuron must be from 0 to 1"),
        ("width: 2", "width: two", "width must be a whole number from 1 to 1048576, got 'two'"),
        ("width: 2", "width: true", "width must be a whole number from 1 to 1048576, got True"),
        ("width: 2", "width: .inf", "width must be a whole number from 1 to 1048576, got inf"),
        ("width: 2", "width: 99999999999", "width must be a whole number from 1 to 1048576, got 99999999999"),
        ("tile[0..5]", "tile[0..99999999999]", "the number of .* must be a whole number from 1 to 1048576"),
        ("link_buffer_size: 4", "link_buffer_size: 0", "link_buffer_size must be a whole number from 1 to .*, got 0"),
        ("energy_process_spike: 29.0e-12", "energy_process_spike: true", "energy_process_spike must be from 0 to 1"),
        ("energy_process_spike: 29.0e-12", "energy_process_spike: 1.0e+308", "energy_process_spike must be from 0"),
        ("name: made_up", "name:", "name must be text, got None"),
        ("core[0..1]", "core[0..999999]", "the number of cores must be a whole number from 1 to 1048576, got 6000000"),
    ],
)
def test_bad_chip_files(old: str, new: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "chip.yaml"
    text = CHIP.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ChipFileError, match=said) as error:
        EventCosts.from_sanafe(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_name_is_one_line(tmp_path: Path) -> None:
    text = CHIP.read_text(encoding="utf-8")
    name = next(line for line in text.splitlines() if line.strip().startswith("name:"))
    (tmp_path / "chip.yaml").write_text(text.replace(name, '  name: "a\\n# b"', 1), encoding="utf-8")
    assert ChipFile.read(tmp_path / "chip.yaml").name == "a # b"


def test_no_chip_file(tmp_path: Path) -> None:
    with pytest.raises(ChipFileError, match="cannot be read: No such file"):
        ChipFile.read(tmp_path / "chip.yaml")
    (tmp_path / "empty.yaml").write_text("", encoding="utf-8")
    with pytest.raises(ChipFileError, match="describes no architecture"):
        ChipFile.read(tmp_path / "empty.yaml")


def test_what_a_file_says() -> None:
    file, costs = ChipFile.read(CHIP), EventCosts.from_sanafe(CHIP)
    assert (file.name, file.mesh, file.neurons_per_core) == ("made_up", Mesh(2, 3, 2), 64)
    assert costs.source == "made_up, chip.yaml"
    assert (costs.synaptic_event_pj, costs.synaptic_event_ns) == (29.0, 7.0)
    assert (costs.spike_out_pj, costs.message_in_ns, costs.hop_north_south_ns) == (23.0, 11.0, 6.5)
    assert [costs.barrier_seconds(tiles) for tiles in (1, 2, 3, 4, 5, 6)] == [1e-7, 1e-7, 3e-7, 3e-7, 5e-7, 5e-7]
    assert costs.missing("_pj") == costs.missing("_ns") == []


def test_sanafe_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sanafe", None)
    with pytest.raises(MissingExtraError, match=r"sanafe not installed: pip install 'las_sj\[hardware\]'"):
        replay(PLACEMENTS["one core"], progress=False)


@needs_sanafe
@pytest.mark.parametrize(
    ("connections", "options", "error", "said"),
    [
        ([], {}, ValueError, "connections must be at least one"),
        (
            PLACEMENTS["one core"],
            {"timing": "cycle"},
            ValueError,
            "timing must be one of simple, detailed, got 'cycle'",
        ),
        (PLACEMENTS["one core"], {"most_synapses": 9}, ReplayError, "core 0 has 1,200 synapses, more than 9: use more"),
        ([layer("a", 9, [0], [2] * 65)], {"chip": CHIP}, ReplayError, "core 2 has 65 neurons, made_up's have 64"),
    ],
    ids=["none", "timing", "synapses", "neurons"],
)
def test_bad_arguments(
    connections: list[Connection], options: dict[str, object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        replay(connections, progress=False, **options)  # type: ignore[arg-type]
