"""Replay recorded spikes on a chip that SANA-FE simulates."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from las_sj.extras import require_extra
from las_sj.hardware.architecture import architecture_of
from las_sj.hardware.chip_file import ChipFile, installed_chip
from las_sj.hardware.closed_form import COMPONENTS
from las_sj.hardware.connection import Connection
from las_sj.hardware.costs import EventCosts
from las_sj.hardware.mesh import Mesh
from las_sj.hardware.replay_job import PieceResult, ReplayError, run_piece

TIMINGS = ("simple", "detailed")
MOST_SYNAPSES = 4_000_000  # of a piece: SANA-FE takes about 0.8 kB for each


@dataclass(frozen=True)
class LayerCounts:
    """What SANA-FE counted of one connection.

    Attributes:
        name: of the layer.
        synaptic_events: how often a synapse was read.
        messages: spikes, each counted once for each core to which it went.
        hops: steps of those messages from tile to tile.
    """

    name: str
    synaptic_events: int
    messages: int
    hops: int


@dataclass(frozen=True, eq=False)
class Replay:
    """What SANA-FE says of spikes on a chip.

    Attributes:
        layers: counts of each connection, in their order.
        energy_pj: by component: synapse, dendrite, soma, network.
        step_seconds: time of each step, [steps]. Of several pieces the longest: cores work on pieces side by side, but
            what one piece's messages do to another's is not in it.
        pieces: how many processes it took.
        timing: "simple" or "detailed".
        mesh: of the chip that was simulated.
        widened: whether that chip is larger than the file's, since the placement asks for more cores.
    """

    layers: tuple[LayerCounts, ...]
    energy_pj: dict[str, float]
    step_seconds: NDArray[np.float64]
    pieces: int
    timing: str
    mesh: Mesh
    widened: bool

    @property
    def total_pj(self) -> float:
        """Energy of all components."""
        return sum(self.energy_pj.values())

    @property
    def seconds(self) -> float:
        """Time of all steps."""
        return float(self.step_seconds.sum())


def replay(
    connections: Sequence[Connection],
    chip: Path | None = None,
    timing: str = "detailed",
    cores: int | None = None,
    most_synapses: int = MOST_SYNAPSES,
    progress: bool = True,
) -> Replay:
    """Replay the spikes of connections, which run in step on one chip, in SANA-FE.

    Source neurons replay their trains and cost nothing themselves. Weights are 0, since counts need no values: the
    targets are read, updated and never fire. Costs and mesh are those of the file, the models SANA-FE's own.

    Args:
        connections: spikes and the cores between which they go.
        chip: a SANA-FE architecture file; None takes the Loihi that SANA-FE brings.
        timing: "simple", which is a closed form, or "detailed", with the network's queues.
        cores: how many cores the chip has at least; None takes as many as the file, or as the placement needs.
        most_synapses: of one process; larger jobs run in pieces, each with all neurons of some cores.
        progress: whether to show a bar over the pieces, on a terminal.

    Raises:
        MissingExtraError: SANA-FE is not installed.
        ChipFileError: the file cannot be used.
        ReplayError: a core has too many neurons or synapses, or SANA-FE failed, was killed, or lost spikes.
        ValueError: there is no connection, or an argument is not one of those above.
    """
    require_extra("hardware", "sanafe")
    if timing not in TIMINGS:
        raise ValueError(f"timing must be one of {', '.join(TIMINGS)}, got {timing!r}")
    if not connections:
        raise ValueError("connections must be at least one")
    path = chip or installed_chip()
    file, costs = ChipFile.read(path), EventCosts.from_sanafe(path)
    _check_neurons(connections, file)
    used = np.unique(np.concatenate([np.r_[each.source_cores, each.target_cores] for each in connections]))
    mesh = file.mesh.with_cores(max(cores or 0, int(used[-1]) + 1))
    pieces = list(_pieces(connections, most_synapses))
    # A piece has fewer tiles than the chip, whose barrier it takes.
    barrier = costs.barrier_seconds(len(np.unique(mesh.tiles_of(used)))) if len(pieces) > 1 else None
    steps = max(connection.steps for connection in connections)
    results = [
        (piece, run_piece(list(piece.values()), _architecture(file, mesh, piece, barrier), timing, steps))
        for piece in tqdm(pieces, desc="SANA-FE", unit="piece", leave=False, disable=None if progress else True)
    ]
    return together(connections, results, timing, mesh, mesh != file.mesh)


Piece = dict[int, Connection]  # by the number of the connection of which each is a part


def _check_neurons(connections: Sequence[Connection], file: ChipFile) -> None:
    """Hold each core's target neurons against the file's limit: SANA-FE is told of a higher one, for the inputs."""
    neurons = np.bincount(np.concatenate([connection.target_cores for connection in connections]))
    worst = int(neurons.argmax())
    if neurons[worst] > file.neurons_per_core:
        raise ReplayError(f"core {worst} has {neurons[worst]} neurons, {file.name}'s have {file.neurons_per_core}")


def _pieces(connections: Sequence[Connection], most: int) -> Iterator[Piece]:
    """Parts of at most so many synapses; all that comes to one core is in one part, so that nothing counts twice."""
    taken: list[int] = []
    synapses = 0
    by_core: Counter[int] = Counter()
    for connection in connections:
        for core, neurons in zip(*np.unique(connection.target_cores, return_counts=True), strict=True):
            by_core[int(core)] += int(neurons) * connection.fired.shape[1]
    for core in sorted(by_core):
        if by_core[core] > most:
            raise ReplayError(f"core {core} has {by_core[core]:,} synapses, more than {most:,}: use more cores")
        if synapses + by_core[core] > most:
            yield _part(connections, taken)
            taken, synapses = [], 0
        taken.append(core)
        synapses += by_core[core]
    yield _part(connections, taken)


def _part(connections: Sequence[Connection], cores: list[int]) -> Piece:
    part: Piece = {}
    for number, connection in enumerate(connections):
        targets = connection.target_cores[np.isin(connection.target_cores, cores)]
        if len(targets):
            part[number] = replace(connection, target_cores=targets)
    return part


def _architecture(file: ChipFile, mesh: Mesh, piece: Piece, barrier: float | None) -> str:
    inputs: Counter[int] = Counter()
    targets: Counter[int] = Counter()
    for connection in piece.values():
        inputs.update(connection.source_cores.tolist())
        targets.update(connection.target_cores.tolist())
    cores = {core: inputs[core] for core in {*inputs, *targets}}
    neurons = max(inputs[core] + targets[core] for core in cores)
    return architecture_of(file, mesh, cores, neurons, barrier)


def together(
    connections: Sequence[Connection],
    results: Sequence[tuple[Piece, PieceResult]],
    timing: str,
    mesh: Mesh,
    widened: bool,
) -> Replay:
    """What all pieces say: counts and energies add up, a step is as long as the longest.

    Args:
        connections: that were replayed.
        results: each piece, and what came of it.
        timing, mesh, widened: as of `Replay`.

    Raises:
        ReplayError: a count is not that of the trains.
    """
    counts = np.zeros((len(connections), 3), np.int64)
    for piece, result in results:
        counts[list(piece)] += result.messages
    layers = tuple(
        LayerCounts(connection.name, synaptic_events=int(events), messages=int(messages), hops=int(hops))
        for connection, (messages, hops, events) in zip(connections, counts, strict=True)
    )
    for layer, connection in zip(layers, connections, strict=True):
        if layer.synaptic_events != connection.synaptic_events:
            raise ReplayError(
                f"SANA-FE counted {layer.synaptic_events:,} synaptic events of {layer.name}, whose spikes cause "
                f"{connection.synaptic_events:,}: its version is not one that replays are made for"
            )
    joules = np.sum([result.energies for _, result in results], axis=0)
    energy = {name: float(value) * 1e12 for name, value in zip(COMPONENTS, joules, strict=True)}
    seconds = np.max([result.seconds for _, result in results], axis=0)
    return Replay(layers, energy, seconds, len(results), timing, mesh, widened)
