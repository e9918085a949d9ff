"""Synaptic events of each weight layer: what SANA-FE counts beside what SpikeMonitor counts.

    python -m las_sj.convert --output out
    python benchmarks/hardware_counts.py out

Each layer alone on a simulated Loihi, its inputs on one core and its outputs on --cores others. Prints a Markdown
table; fails where a count differs.
"""

import argparse
import math
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from las_sj.analysis import SpikeMonitor
from las_sj.checkpoint.loading import load_converted
from las_sj.checkpoint.sample import sample_of
from las_sj.hardware.chip_file import ChipFile, installed_chip
from las_sj.hardware.closed_form import closed_form
from las_sj.hardware.connection import Connection
from las_sj.hardware.costs import EventCosts
from las_sj.hardware.replay import Replay, replay
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


def check(connection: Connection, spikes: int, run: Replay, costs: EventCosts) -> None:
    """Hold the events against the monitor's and the energy against the closed form; events must be equal."""
    (layer,) = run.layers
    assert layer.synaptic_events == spikes * len(connection.target_cores), (layer, spikes)
    assert layer.messages == spikes * len(connection.destinations), (layer, spikes)
    expected = closed_form([connection], costs, run.mesh)
    for component, energy in run.energy_pj.items():
        assert math.isclose(energy, expected.energy_pj[component] or 0.0, rel_tol=1e-9), (component, layer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a converted model")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--cores", type=int, default=1, help="on which the outputs of a layer lie")
    parser.add_argument("--timing", choices=("simple", "detailed"), default="detailed")
    arguments = parser.parse_args()
    costs, mesh = EventCosts.from_sanafe(installed_chip()), ChipFile.read(installed_chip()).mesh
    start = time.perf_counter()
    print("| layer | spikes | fan-out | synaptic events | SANA-FE | µJ | closed step µs | SANA-FE step µs |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    total, energy = 0, 0.0
    for name, (spikes, fan_out, fired) in recorded(arguments.folder, arguments.tokens).items():
        targets = 1 + np.arange(fan_out) * arguments.cores // fan_out
        connection = Connection(name, fired, np.zeros(fired.shape[1], np.int64), targets)
        run = replay([connection], timing=arguments.timing)
        check(connection, spikes, run, costs)
        steps = closed_form([connection], costs, mesh).step_seconds
        assert steps is not None
        print(
            f"| {name} | {spikes:,} | {fan_out} | {spikes * fan_out:,} | {run.layers[0].synaptic_events:,} "
            f"| {run.total_pj * 1e-6:,.1f} | {steps.mean() * 1e6:.2f} | {run.step_seconds.mean() * 1e6:.2f} |",
            flush=True,
        )
        total += run.layers[0].synaptic_events
        energy += run.total_pj
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"| all | | | | {total:,} | {energy * 1e-6:,.1f} | | |\n")
    seconds = time.perf_counter() - start
    print(f"{energy * 1e-6 / arguments.tokens:.2f} µJ a token, {seconds:.0f} s, SANA-FE {memory:.2f} GB")


if __name__ == "__main__":
    main()
