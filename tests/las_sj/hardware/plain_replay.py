"""A replay as SANA-FE's documentation has it, in the given file's own architecture: python plain_replay.py CHIP TRAINS.

Prints energy by component in J, seconds, synaptic events and messages, in JSON.
"""

import json
import sys

import numpy as np
import sanafecpp as sanafe


def main(chip: str, trains: str) -> None:
    architecture = sanafe.load_arch(chip)
    cores = architecture.cores()
    with np.load(trains) as given:
        fired, sources, targets = given["fired"], given["source_cores"], given["target_cores"]
    net = sanafe.Network()
    a = net.create_neuron_group("a", len(sources))
    b = net.create_neuron_group("b", len(targets), soma_hw_name="lif", model_attributes={"threshold": 1e9})
    for i, core in enumerate(sources.tolist()):
        train = {"spikes": fired[:, i].tolist()}
        a[i].set_attributes(soma_hw_name=f"inputs[{i}]", model_attributes=train)
        a[i].map_to_core(cores[core])
    for j, core in enumerate(targets.tolist()):
        b[j].map_to_core(cores[core])
    a.connect_neurons_dense(b, {"weight": [0.0] * (len(sources) * len(targets))})
    simulated = sanafe.SpikingChip(architecture)
    simulated.load(net)
    found = simulated.sim(len(fired), timing_model="simple")
    sys.stderr.write(json.dumps({key: found[key] for key in ("energy", "sim_time", "spikes", "packets_sent")}))


if __name__ == "__main__":
    main(*sys.argv[1:])
