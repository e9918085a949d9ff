"""The dense part of a placed network, as a replay takes it: trains, and the cores between which they travel."""

from collections.abc import Mapping

import numpy as np

from las_sj.hardware.connection import Connection, Trains
from las_sj.hardware.placement import Placement


def connections_of(placement: Placement, trains: Mapping[str, Trains]) -> list[Connection]:
    """A connection for each layer, or for each part of its rows where they are split.

    Args:
        placement: where everything lies.
        trains: of each population that feeds weights, bool [steps, C], by name.

    Raises:
        ValueError: a train has other neurons than its population.
    """
    layers = {layer.name: layer for layer in placement.layers}
    cores = {
        population.name: np.zeros(population.neurons, np.int64)
        for population in placement.populations
        if population.layers and population.name in trains
    }
    for piece in placement.neurons:
        if piece.population in cores:
            cores[piece.population][slice(*piece.neurons)] = piece.core
    targets: dict[tuple[str, tuple[int, int]], np.ndarray] = {}
    for each in placement.weights:
        key = (each.layer, each.rows)
        targets.setdefault(key, np.zeros(layers[each.layer].columns, np.int64))[slice(*each.columns)] = each.core
    fed_by = {name: each.name for each in placement.populations for name in each.layers}
    found = []
    for (name, rows), target_cores in targets.items():
        source = fed_by.get(name)
        if source is not None and source in trains:
            part, fired = slice(*rows), trains[source]
            if fired.shape[1] != len(cores[source]):
                raise ValueError(
                    f"{source} was placed with {len(cores[source])} neurons, its train has {fired.shape[1]}"
                )
            found.append(Connection(name, fired[:, part], cores[source][part], target_cores))
    return found
