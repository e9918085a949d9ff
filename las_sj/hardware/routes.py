"""Where the spikes of each slice of neurons go, and the sums of each layer's columns."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from las_sj.hardware.placement import NeuronSlice, Placement, Population, WeightSlice, cores_of_columns

Places = NDArray[np.int64]
Shares = NDArray[np.float64]  # of the synaptic events of each neuron of a slice


@dataclass(frozen=True)
class Route:
    """Where the spikes of a slice of neurons go.

    Attributes:
        population: that the neurons are of.
        source: core of the neurons.
        targets: cores that spikes come to.
        messages: that a spike sends to each of them, on average.
        events: synaptic events of a spike at each of them, or shares of its fan-out.
        is_weighted: whether spikes come to weights, whose columns are the fan-out.
    """

    population: str
    source: int
    targets: tuple[int, ...]
    messages: tuple[float, ...]
    events: tuple[float, ...]
    is_weighted: bool


@dataclass(frozen=True)
class Current:
    """Sums of columns that other cores' neurons integrate: a message each, once a window.

    Attributes:
        layer: that the columns are of.
        source, target: cores of columns and neurons.
        sums: how many a window.
    """

    layer: str
    source: int
    target: int
    sums: int


def routes_of(placement: Placement) -> list[Route]:
    """A route for each slice of neurons, in the order of the placement.

    Spikes that come to weights go to all cores of their rows. Others go to the neurons of their targets, in order: of
    a population with half as many neurons, two and two come to one. With a fan-out, the targets are the same part, such
    as a head, or blocks of so many. Where a population has several targets, its fan-out is shared equally. Spikes
    without a target stay on their core.
    """
    layers = _by_layer(placement)
    populations = {population.name: population for population in placement.populations}
    lying = _by_population(placement)
    routes = []
    for piece in placement.neurons:
        source = populations[piece.population]
        reached = [each for name in source.layers for each in layers[name] if _reaches(piece, each)]
        if reached:
            routes.append(_into_weights(piece, reached))
        else:
            targets = [(populations[name], lying[name]) for name in source.targets]
            routes.append(_into_neurons(piece, source, targets))
    return routes


def _by_layer(placement: Placement) -> dict[str, list[WeightSlice]]:
    """Slices of each layer, by name."""
    found: dict[str, list[WeightSlice]] = {}
    for piece in placement.weights:
        found.setdefault(piece.layer, []).append(piece)
    return found


def _by_population(placement: Placement) -> dict[str, list[NeuronSlice]]:
    """Slices of each population, by name."""
    found: dict[str, list[NeuronSlice]] = {}
    for piece in placement.neurons:
        found.setdefault(piece.population, []).append(piece)
    return found


def _reaches(source: NeuronSlice, weights: WeightSlice) -> bool:
    return weights.rows[0] <= source.neurons[0] < weights.rows[1]


def _into_weights(piece: NeuronSlice, reached: Iterable[WeightSlice]) -> Route:
    events: dict[int, float] = {}
    for each in reached:
        events[each.core] = events.get(each.core, 0.0) + each.columns[1] - each.columns[0]
    return Route(piece.population, piece.core, tuple(events), (1.0,) * len(events), tuple(events.values()), True)


def _into_neurons(
    piece: NeuronSlice, source: Population, targets: Iterable[tuple[Population, list[NeuronSlice]]]
) -> Route:
    """One message for each core, even if neurons of several targets lie there."""
    events: dict[int, Shares] = {}
    for target, lying in targets:
        for core, shares in _shares(piece, source, target, lying).items():
            events[core] = events.get(core, 0.0) + shares / len(source.targets)
    if not events:
        events[piece.core] = np.ones(piece.size)
    return Route(
        piece.population,
        piece.core,
        tuple(events),
        tuple(float((shares > 0).mean()) for shares in events.values()),
        tuple(float(shares.mean()) for shares in events.values()),
        False,
    )


def _shares(
    piece: NeuronSlice, source: Population, target: Population, lying: Iterable[NeuronSlice]
) -> dict[int, Shares]:
    """Which part of the events that each neuron causes at a target is on which core, by core."""
    width = min(_width(source, target), float(target.neurons))
    first = np.floor(np.arange(*piece.neurons) * (target.neurons / source.neurons) / width) * width
    first = np.minimum(first, target.neurons - width)
    found: dict[int, Shares] = {}
    for each in lying:
        shared = np.minimum(first + width, each.neurons[1]) - np.maximum(first, each.neurons[0])
        if shared.max() > 0:
            found[each.core] = found.get(each.core, 0.0) + np.maximum(shared, 0.0) / width
    return found


def _width(source: Population, target: Population) -> float:
    """How many neurons of a target one neuron fires at."""
    fan_out = source.fan_out / len(source.targets)
    if fan_out > 1 and source.parts == target.parts > 1:  # queries and keys to the scores of their head
        return target.neurons / target.parts
    if source.neurons == target.neurons:  # values to their sums, for token after token
        return 1.0
    return max(target.neurons / source.neurons, fan_out, 1.0)


def currents_of(placement: Placement) -> list[Current]:
    """Sums that leave the cores of their columns: along residual streams, and to the neurons that integrate them.

    Where several layers drive a population, as along a residual stream, their columns are one after the other: each
    adds the sums so far to its own, and the last one sends them to the population. Streams of several populations are
    one where they go the same way.
    """
    lying = _by_population(placement)
    slices = _by_layer(placement)
    cores = {name: np.array(cores_of_columns(pieces)) for name, pieces in slices.items()}
    found: list[Current] = []
    ways: dict[tuple[str, str], None] = {}  # in order
    for population in placement.populations:
        ways |= dict.fromkeys(pairwise(population.drivers))
        if population.drivers and population.name not in placement.columns:
            columns = cores[population.drivers[-1]]
            for piece in lying[population.name]:
                places = np.arange(*piece.neurons) * len(columns) // population.neurons
                found += _sums(population.drivers[-1], columns[places], np.full(piece.size, piece.core))
    for before, after in ways:
        places = np.arange(len(cores[after])) * len(cores[before]) // len(cores[after])
        found += _sums(before, cores[before][places], cores[after])
    return found


def _sums(layer: str, sources: Places, targets: Places) -> Iterator[Current]:
    pairs, sums = np.unique(np.stack([sources, targets]), axis=1, return_counts=True)
    for source, target, count in zip(*pairs.tolist(), sums.tolist(), strict=True):
        if source != target:
            yield Current(layer, source, target, count)
