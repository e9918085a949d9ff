"""The description of a chip that SANA-FE is given for one replay."""

import json
from collections.abc import Mapping
from typing import Any

from las_sj.hardware.chip_file import ChipFile
from las_sj.hardware.mesh import Mesh

NEURONS_OF_A_UNIT = 1024
SOMA, INPUT, SYNAPSE, DENDRITE = "soma", "input", "synapse", "dendrite"
# The models of a replay, whatever the file names: a file never decides which code runs.
_MODELS = {
    "axon_in": None,
    SYNAPSE: "current_based",
    DENDRITE: "accumulator",
    SOMA: "leaky_integrate_fire",
    "axon_out": None,
}
_FREE = {
    f"{what}_{event}": 0.0
    for what in ("energy", "latency")
    for event in ("access_neuron", "update_neuron", "spike_out")
}


def architecture_of(
    file: ChipFile, mesh: Mesh, inputs: Mapping[int, int], neurons: int, barrier_seconds: float | None = None
) -> str:
    """A description of a chip for one replay, in JSON, which is YAML too.

    Args:
        file: whose costs it has.
        mesh: of the chip.
        inputs: how many units each core needs that replay trains, by core; the last core is described too.
        neurons: the limit on the neurons of a core, those units among them.
        barrier_seconds: of each step, whatever the number of tiles; None takes the file's.
    """
    noc = {
        "topology": "mesh",
        "width": mesh.width,
        "height": mesh.height,
        "link_buffer_size": file.link_buffer_size,
        "sync_model": "table" if barrier_seconds is None else "fixed",
        "latency_sync": _barrier_by_tiles(file, mesh) if barrier_seconds is None else barrier_seconds,
    }
    tiles = [
        {
            "name": f"tile_{tile}",
            "attributes": dict(file.tile),
            "core": [
                _core(file, tile * mesh.cores_per_tile + core, inputs, neurons) for core in range(mesh.cores_per_tile)
            ],
        }
        for tile in range(max(inputs) // mesh.cores_per_tile + 1)
    ]
    return json.dumps({"architecture": {"name": "replay", "attributes": noc, "tile": tiles}})


def _barrier_by_tiles(file: ChipFile, mesh: Mesh) -> list[float]:
    """Seconds for 0, 1, 2 … tiles: keys of JSON are strings, which SANA-FE does not take for numbers of tiles."""
    steps = dict(file.barrier)
    table = [file.barrier[0][1]]
    for tiles in range(1, mesh.width * mesh.height + 1):
        table.append(steps.get(tiles, table[-1]))
    return table


def _core(file: ChipFile, number: int, inputs: Mapping[int, int], neurons: int) -> dict[str, Any]:
    units = {
        kind: [{"name": kind, "attributes": {**({"model": model} if model else {}), **file.units[kind]}}]
        for kind, model in _MODELS.items()
    }
    # A unit of SANA-FE holds so many neurons, and an input one.
    for kind in (SOMA, DENDRITE):
        units[kind][0]["name"] = f"{kind}[0..{neurons // NEURONS_OF_A_UNIT}]"
    units[DENDRITE].append({**units[DENDRITE][0], "name": f"{INPUT}_{DENDRITE}"})
    count = inputs.get(number, 0)
    if count:
        units[SOMA].append({"name": f"{INPUT}[0..{count - 1}]", "attributes": {"model": "input", **_FREE}})
    attributes = {"buffer_position": "soma", "buffer_inside_unit": False, "max_neurons_supported": neurons}
    return {"name": f"core_{number}", "attributes": attributes, **units}
