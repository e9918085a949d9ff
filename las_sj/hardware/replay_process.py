"""Runs one piece of a replay in SANA-FE, in a process of its own: python replay_process.py FOLDER PARENT.

SANA-FE is GPL-3.0 and puts folders named src and tests beside its modules: nobody else imports it. The file is run by
its path and imports nothing of this package, whose import takes seconds.
"""

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

CHUNK = 16  # steps between looks at whether the process that waits is still there
NEURONS_OF_A_UNIT = 1024  # SANA-FE's somas and dendrites hold no more; architecture.py writes as many units as it takes
ENERGIES = ("synapse", "dendrite", "soma", "network")


class MessageCounts:
    """The messages of each population, and their hops and synaptic events, from the lines that SANA-FE writes."""

    def __init__(self, populations: int) -> None:
        self.counts = np.zeros((populations, 3), np.int64)

    def seek(self, place: int) -> None:
        """Do nothing: SANA-FE rewinds what it writes to."""

    def write(self, lines: str) -> None:
        """Count lines of step, number, population.neuron, source, destination, hops, events, …."""
        for line in lines.splitlines():
            cells = line.split(",", 7)
            if cells[4] != "x.x" and cells[0] != "timestep":  # not what a core does after its last message, not a head
                population = int(cells[2].split(".")[0])
                self.counts[population] += (1, int(cells[5]), int(cells[6]))


def network(sanafe: Any, architecture: Any, job: dict[str, Any], trains: Any) -> Any:
    """Populations that replay trains, each connected to neurons that never fire."""
    cores = architecture.cores()
    found = sanafe.Network()
    taken: Counter[int] = Counter()  # input units by core
    mapped: Counter[int] = Counter()  # targets by core
    for index, steps in enumerate(job["steps"]):
        source_cores, target_cores = trains[f"source_cores_{index}"], trains[f"target_cores_{index}"]
        fired = np.unpackbits(trains[f"fired_{index}"], axis=0, count=steps).astype(bool)
        sources = found.create_neuron_group(str(index), len(source_cores))
        for neuron, core in enumerate(source_cores.tolist()):
            sources[neuron].set_attributes(
                soma_hw_name=f"input[{taken[core]}]",
                dendrite_hw_name="input_dendrite",
                model_attributes={"spikes": fired[:, neuron].tolist()},
            )
            sources[neuron].map_to_core(cores[core])
            taken[core] += 1
        targets = found.create_neuron_group(
            f"targets {index}",
            len(target_cores),
            default_synapse_hw_name="synapse",
            model_attributes={"threshold": 1e9},
        )
        for neuron, core in enumerate(target_cores.tolist()):
            unit = mapped[core] // NEURONS_OF_A_UNIT
            targets[neuron].set_attributes(soma_hw_name=f"soma[{unit}]", dendrite_hw_name=f"dendrite[{unit}]")
            targets[neuron].map_to_core(cores[core])
            mapped[core] += 1
        sources.connect_neurons_dense(targets, {"weight": [0.0] * (len(source_cores) * len(target_cores))})
    return found


def run(folder: Path, parent: int) -> None:
    """Simulate the job of a folder, and write what came of it beside it."""
    import sanafecpp as sanafe  # what `import sanafe` brings, without its modules for notebooks

    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    architecture = sanafe.load_arch(str(folder / "architecture.yaml"))
    with np.load(folder / "trains.npz", allow_pickle=False) as trains:
        chip = sanafe.SpikingChip(architecture)
        chip.load(network(sanafe, architecture, job, trains))
    messages = MessageCounts(len(job["steps"]))
    seconds: list[float] = []
    events = 0
    energies = np.zeros(len(ENERGIES))
    left = job["last"]
    while left and os.getppid() == parent:
        steps = min(left, CHUNK)
        done = chip.sim(steps, timing_model=job["timing"], perf_trace=True, message_trace=messages)
        trace = done["perf_trace"]
        seconds += trace["sim_time"]
        events += sum(trace["spikes"])
        energies += [sum(trace[f"{name}_energy"]) for name in ENERGIES]
        left -= steps
    if not left:
        np.savez(folder / "result.npz", messages=messages.counts, seconds=seconds, energies=energies, events=events)


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]))
