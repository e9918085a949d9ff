"""Runs parts of a converted model in SANA-FE with the plug-in beside this file: python functional_run.py FOLDER.

FOLDER holds architecture.yaml and given.npz; results.npz comes beside them.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import sanafecpp as sanafe

NEURONS_OF_A_UNIT = 1024
Arrays = dict[str, Any]


class Chip:
    """A network on one core, whose neurons know the numbers that SANA-FE gives them."""

    def __init__(self, folder: Path) -> None:
        self.architecture = sanafe.load_arch(str(folder / "architecture.yaml"))
        self.core = self.architecture.cores()[0]
        self.net = sanafe.Network()
        self.neurons = 0

    def coders(self, name: str, given: Arrays, train: Any = None, **options: Any) -> Any:
        """OAT neurons; those with a train [steps, C] of codes replay it, the others code their input."""
        code = given["code"]
        normal, outlier = given[f"{name}_normal"], given[f"{name}_outlier"]
        group = self.net.create_neuron_group(name, len(normal), soma_hw_name="oat", **options)
        dendrite = "unused" if train is not None else "dendrite[0]"
        for index in range(len(normal)):
            attributes = {
                "number": self.neurons,
                "time_steps": int(code[0]),
                "levels": int(code[1]),
                "theta_normal": float(normal[index]),
                "theta_outlier": float(outlier[index]),
                **(potential(given, index) if train is None else {"train": train[:, index].tolist()}),
            }
            group[index].set_attributes(dendrite_hw_name=dendrite, model_attributes=attributes)
            group[index].map_to_core(self.core)
            self.neurons += 1
        return group

    def run(self, steps: int) -> dict[str, Any]:
        """Simulate, and trace the potentials of neurons that ask for it."""
        chip = sanafe.SpikingChip(self.architecture)
        chip.load(self.net)
        found: dict[str, Any] = chip.sim(steps, timing_model="simple", potential_trace=True)
        return found


def potential(given: Arrays, index: int) -> dict[str, float]:
    """How an output's potential follows from its input."""
    scale = float(given["scale"][index])
    high = float(np.float32(scale))
    return {"bias": float(given["bias"][index]), "scale": high, "scale_rest": scale - high}


def linear(folder: Path, given: Arrays, train: Any) -> tuple[Any, int]:
    """Trains of a layer's outputs as signed levels [steps, F], windows one after another; synaptic events."""
    chip = Chip(folder)
    sources = chip.coders("input", given, train)
    options = {"default_synapse_hw_name": "graded", "log_potential": True}
    targets = chip.coders("output", given, **options)
    sources.connect_neurons_dense(targets, {"weight": given["weight"].reshape(-1).tolist()})
    time_steps = int(given["code"][0])
    found = chip.run(len(train) + time_steps)
    return np.array(found["potential_trace"])[time_steps:], found["spikes"]


def product(folder: Path, given: Arrays) -> tuple[Any, int]:
    """Scores q·k of each live pair [P], and synaptic events."""
    code, pairs, width = given["code"], given["pairs"].tolist(), int(given["width"])
    chip = Chip(folder)
    queries = chip.coders("query", given, given["query_train"])
    first_key = chip.neurons
    keys = chip.coders("key", given, given["key_train"])
    options = {"default_synapse_hw_name": "product", "log_potential": True}
    scores = chip.net.create_neuron_group("score", len(pairs), soma_hw_name="sum", **options)
    for index in range(len(pairs)):
        scores[index].set_attributes(dendrite_hw_name=f"dendrite[{index // NEURONS_OF_A_UNIT}]")
        scores[index].map_to_core(chip.core)
    # Rows of `width` neurons, one for each head and token; a score has one synapse for each channel of both rows.
    edges = [
        (query * width + channel, key * width + channel, score)
        for score, (query, key) in enumerate(pairs)
        for channel in range(width)
    ]
    for group, side, is_first in ((queries, 0, 1), (keys, 1, 0)):
        partners = [edge[1 - side] + (first_key if side == 0 else 0) for edge in edges]
        attributes = {"partner": partners, "is_first": [is_first] * len(edges)}
        group.connect_neurons_sparse(scores, attributes, [(edge[side], edge[2]) for edge in edges])
    found = chip.run(int(code[0]) + 1)
    return np.array(found["potential_trace"])[-1], found["spikes"]


def main(folder: Path) -> None:
    with np.load(folder / "given.npz") as stored:
        given = dict(stored)
    levels, linear_events = linear(folder, given, given["input_train"])
    levels_of_single, _ = linear(folder, given, given["single_train"])
    scores, product_events = product(folder, given)
    events = [linear_events, product_events]
    np.savez(folder / "results.npz", levels=levels, levels_of_single=levels_of_single, scores=scores, events=events)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
