"""Where the spikes of each slice of neurons go, and the sums of each layer's columns."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from las_sj.hardware.placement import NeuronSlice, Placement, Population, WeightSlice

Places = NDArray[np.int64]
Shares = dict[int, tuple[float, float]]  # by core: of the spikes, and of their synaptic events


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

    Spikes that come to weights go to all cores of their rows. Others go to the neurons of their targets, in order: of a
    population with half as many neurons, two and two come to one. With a fan-out, the targets are blocks of so many,
    such as the scores of a head. Where a population has several targets, its fan-out is shared equally. Spikes without
    a target stay on their core.
    """
    layers: dict[str, list[WeightSlice]] = {}
    for weights in placement.weights:
        layers.setdefault(weights.layer, []).append(weights)
    populations = {population.name: population for population in placement.populations}
    lying = _by_population(placement)
    routes = []
    for piece in placement.neurons:
        source = populations[piece.population]
        reached = [each for name in source.layers for each in layers[name] if _reaches(piece, each)]
        if reached:
            routes.append(_into_weights(piece, reached))
        else:
            parts = [_shares(piece, source, populations[name], lying[name]) for name in source.targets]
            routes.append(_into_neurons(piece, parts))
    return routes


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


def _into_neurons(piece: NeuronSlice, parts: list[Shares]) -> Route:
    """One message for each core, even if neurons of several targets lie there."""
    messages: dict[int, float] = {}
    events: dict[int, float] = {}
    for shares in parts or [{piece.core: (1.0, 1.0)}]:
        for core, (of_spikes, of_events) in shares.items():
            messages[core] = max(messages.get(core, 0.0), of_spikes)
            events[core] = events.get(core, 0.0) + of_events / max(len(parts), 1)
    return Route(piece.population, piece.core, tuple(messages), tuple(messages.values()), tuple(events.values()), False)


def _shares(piece: NeuronSlice, source: Population, target: Population, lying: Iterable[NeuronSlice]) -> Shares:
    """Which part of a slice's spikes comes to which core of a target, and which part of their events is there."""
    ratio = target.neurons / source.neurons
    width = min(max(ratio, source.fan_out / len(source.targets), 1.0), float(target.neurons))
    first = np.floor(np.arange(*piece.neurons) * ratio / width) * width
    first = np.minimum(first, target.neurons - width)
    shares: Shares = {}
    there: dict[int, NDArray[np.float64]] = {}
    for each in lying:
        shared = np.minimum(first + width, each.neurons[1]) - np.maximum(first, each.neurons[0])
        if shared.max() > 0:
            there[each.core] = there.get(each.core, np.zeros(len(first))) + np.maximum(shared, 0.0)
    for core, found in there.items():
        shares[core] = (float((found > 0).mean()), float(found.mean() / width))
    return shares


def currents_of(placement: Placement) -> list[Current]:
    """Sums that have to leave the cores of their columns, in the order of the populations that integrate them.

    Where several layers drive a population, as along a residual stream, they are added on the way, so that a neuron is
    sent one sum: by the last of the layers.
    """
    lying = _by_population(placement)
    found: list[Current] = []
    for population in placement.populations:
        if population.drivers and population.name not in placement.columns:
            layer = population.drivers[-1]
            columns = _cores_of_columns(placement, layer)
            for piece in lying[population.name]:
                places = np.arange(*piece.neurons) * len(columns) // population.neurons
                found += _sums(layer, columns[places], piece.core)
    return found


def _cores_of_columns(placement: Placement, layer: str) -> Places:
    """Where each column's sum is, [F]: if rows are split, with the first of them."""
    pieces = [piece for piece in placement.weights if piece.layer == layer and piece.rows[0] == 0]
    return np.concatenate([np.full(piece.columns[1] - piece.columns[0], piece.core) for piece in pieces])


def _sums(layer: str, sources: Places, target: int) -> Iterator[Current]:
    for core, sums in zip(*np.unique(sources, return_counts=True), strict=True):
        if core != target:
            yield Current(layer, int(core), target, int(sums))
