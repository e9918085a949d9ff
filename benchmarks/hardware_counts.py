"""Synaptic events of each weight layer: what SANA-FE counts beside what SpikeMonitor counts.

    python -m las_sj.convert --output out
    python benchmarks/hardware_counts.py out

Each layer alone on a simulated Loihi, its inputs on one core and its outputs on --cores others; with --together, all of
them side by side on one, or scattered over its cores at random. Large networks are taken by part: --only takes layers
whose names begin so. Prints a Markdown table; fails where a count differs, or an energy from the closed form.
"""

import argparse
import math
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from las_sj.analysis import SpikeMonitor
from las_sj.checkpoint.loading import load_converted
from las_sj.checkpoint.sample import sample_of
from las_sj.hardware.chip import CHIPS
from las_sj.hardware.chip_file import installed_chip
from las_sj.hardware.closed_form import ClosedForm, closed_form
from las_sj.hardware.connection import Connection
from las_sj.hardware.costs import EventCosts
from las_sj.hardware.replay import TIMINGS, Replay, replay
from las_sj.neurons import WindowRecord


@dataclass
class Trains:
    """Keeps the trains of whole populations, after `before` counted them."""

    before: Callable[[Any, WindowRecord], None]
    fired: NDArray[np.bool_] | None = None

    def __call__(self, node: Any, record: WindowRecord) -> None:
        self.before(node, record)
        spikes = record.spikes if record.spikes is not None else node.spikes_of(record.potential)
        self.fired = steps_of(spikes != 0)


def steps_of(fired: Tensor) -> NDArray[np.bool_]:
    """Trains [T, B, S, C] as the steps of one token after another, [B·S·T, C]."""
    return fired.movedim(0, -2).reshape(-1, fired.shape[-1]).numpy()


def recorded(folder: Path, tokens: int) -> dict[str, tuple[int, int, NDArray[np.bool_]]]:
    """Spikes that the monitor counted, fan-out and trains, of each site that feeds weights."""
    model, _ = load_converted(folder)
    ids = sample_of(model, folder)[0]["input_ids"][:1, :tokens]
    with SpikeMonitor(model) as monitor, torch.no_grad():
        kept = {name: each for name, each in monitor.sites.items() if each.site.feeds == "weights"}
        for each in kept.values():
            each.site.node.recorder = Trains(each.site.node.recorder)
        model(input_ids=ids, use_cache=False)
        trains = {name: each.site.node.recorder.fired for name, each in kept.items()}
    return {name: (each.spikes, each.site.fan_out, trains[name]) for name, each in kept.items()}


def layers_on(folder: Path, tokens: int, cores: int, together: bool, only: str = "") -> list[tuple[Connection, int]]:
    """Each weight layer, its inputs on one core and its outputs on the next ones, and the spikes that were counted."""
    found: list[tuple[Connection, int]] = []
    chosen = {name: each for name, each in recorded(folder, tokens).items() if name.startswith(only)}
    for name, (spikes, fan_out, fired) in chosen.items():
        first = len(found) * (1 + cores) if together else 0
        targets = first + 1 + np.arange(fan_out) * cores // fan_out
        found.append((Connection(name, fired, np.full(fired.shape[1], first), targets), spikes))
    return found


def scattered(layers: list[tuple[Connection, int]], seed: int) -> list[tuple[Connection, int]]:
    """Layers whose cores are swapped for others of the chip at random."""
    cores = np.random.default_rng(seed).permutation(CHIPS["loihi"].cores)
    return [
        (replace(each, source_cores=cores[each.source_cores], target_cores=cores[each.target_cores]), spikes)
        for each, spikes in layers
    ]


def check(layers: list[tuple[Connection, int]], run: Replay, costs: EventCosts) -> ClosedForm:
    """The closed form, whose energy must be SANA-FE's; events and messages must be those of the monitor's spikes."""
    for counted, (connection, spikes) in zip(run.layers, layers, strict=True):
        assert counted.synaptic_events == spikes * len(connection.target_cores), (counted, spikes)
        assert counted.messages == spikes * len(connection.destinations), (counted, spikes)
    expected = closed_form([connection for connection, _ in layers], costs, run.mesh)
    assert expected.loads.hops == sum(counted.hops for counted in run.layers)
    for component, energy in run.energy_pj.items():
        assert math.isclose(energy, expected.energy_pj[component] or 0.0, rel_tol=1e-9), (component, run.energy_pj)
    return expected


def one_by_one(layers: list[tuple[Connection, int]], timing: str, costs: EventCosts) -> float:
    """Print a row for each layer, which has a chip of its own; return the energy of all in µJ."""
    print("| layer | spikes | fan-out | synaptic events | SANA-FE | µJ | closed step µs | SANA-FE step µs |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    events, energy = 0, 0.0
    for connection, spikes in layers:
        run = replay([connection], timing=timing)
        closed = check([(connection, spikes)], run, costs).step_seconds
        assert closed is not None
        fan_out, counted = len(connection.target_cores), run.layers[0].synaptic_events
        print(
            f"| {connection.name} | {spikes:,} | {fan_out} | {spikes * fan_out:,} | {counted:,} "
            f"| {run.total_pj * 1e-6:,.1f} | {closed.mean() * 1e6:.2f} | {run.step_seconds.mean() * 1e6:.2f} |",
            flush=True,
        )
        events += counted
        energy += run.total_pj * 1e-6
    print(f"| all | | | | {events:,} | {energy:,.1f} | | |\n")
    return energy


def in_step(layers: list[tuple[Connection, int]], timing: str, costs: EventCosts) -> float:
    """Print what all layers on one chip take, each with another token; return their energy in µJ."""
    run = replay([connection for connection, _ in layers], timing=timing)
    closed = check(layers, run, costs).step_seconds
    assert closed is not None
    parts = ", ".join(f"{component} {energy * 1e-6:,.1f}" for component, energy in run.energy_pj.items())
    messages, hops = (sum(getattr(each, field) for each in run.layers) for field in ("messages", "hops"))
    print(f"{parts} µJ; {messages:,} messages, {hops:,} hops, {run.pieces} processes")
    for name, steps in (("closed form", closed), (timing, run.step_seconds)):
        print(f"step, {name}: {steps.mean() * 1e6:.2f} µs mean, {steps.max() * 1e6:.2f} µs max")
    return run.total_pj * 1e-6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a converted model")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--cores", type=int, default=1, help="on which the outputs of a layer lie")
    parser.add_argument("--timing", choices=TIMINGS, default="detailed")
    parser.add_argument("--together", action="store_true", help="all layers on one chip, in step")
    parser.add_argument("--scattered", type=int, metavar="SEED", help="likewise, on cores at random")
    parser.add_argument("--only", default="", metavar="START", help="layers whose names begin so")
    arguments = parser.parse_args()
    together = arguments.together or arguments.scattered is not None
    layers = layers_on(arguments.folder, arguments.tokens, arguments.cores, together, arguments.only)
    if arguments.scattered is not None:
        layers = scattered(layers, arguments.scattered)
    start = time.perf_counter()
    run = in_step if together else one_by_one
    energy = run(layers, arguments.timing, EventCosts.from_sanafe(installed_chip()))
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    seconds = time.perf_counter() - start
    print(f"{energy / arguments.tokens:.2f} µJ a token, {seconds:.0f} s, SANA-FE {memory:.2f} GB")


if __name__ == "__main__":
    main()
