"""Where spikes and sums go, by hand: in order, in blocks, to several targets, from columns and back."""

from dataclasses import replace

import pytest

from las_sj.hardware.chip import Chip
from las_sj.hardware.costs import EventCosts
from las_sj.hardware.mesh import Mesh
from las_sj.hardware.placement import Layer, Placement, Population
from las_sj.hardware.placer import place
from las_sj.hardware.routes import Current, Route, currents_of, routes_of


def chip(neurons: int, memory: int | None = None) -> Chip:
    return Chip("toy", Mesh(8, 1, 1), EventCosts("a test"), neurons=neurons, synapse_bits=memory)


def route(placement: Placement, population: str, number: int = 0) -> Route:
    return [each for each in routes_of(placement) if each.population == population][number]


def reached(placement: Placement, population: str, number: int = 0) -> dict[int, tuple[float, float]]:
    """Messages and events by core."""
    found = route(placement, population, number)
    return dict(zip(found.targets, zip(found.messages, found.events, strict=True), strict=True))


def test_neuron_by_neuron() -> None:
    """Eight sources on two cores, four targets on two: the halves meet."""
    placement = place(chip(4), [], [Population("a", 8, targets=("b",)), Population("b", 8)])
    assert reached(placement, "a", 0) == {2: (1.0, 1.0)}
    assert reached(placement, "a", 1) == {3: (1.0, 1.0)}
    assert reached(placement, "b", 0) == {2: (1.0, 1.0)}  # no target


def test_a_slice_whose_targets_lie_on_two_cores() -> None:
    placement = place(chip(6), [], [Population("a", 4, targets=("b",)), Population("b", 4)])
    assert reached(placement, "a") == {0: (0.5, 0.5), 1: (0.5, 0.5)}


def test_all_come_to_one_and_one_goes_to_all() -> None:
    placement = place(
        chip(4),
        [],
        [Population("a", 4, targets=("b",)), Population("b", 1, targets=("c",), fan_out=6.0), Population("c", 6)],
    )
    assert reached(placement, "a") == {1: (1.0, 1.0)}
    assert reached(placement, "b") == {1: (1.0, 0.5), 2: (1.0, 0.5)}  # three of the six on each


def test_blocks_of_a_head() -> None:
    """Two heads of two queries, three scores each: a query fires at the scores of its head, on one core or on two."""
    heads = [Population("q", 4, targets=("s",), fan_out=2.0, parts=2), Population("s", 6, parts=2)]
    assert reached(place(chip(10), [], heads), "q") == {0: (1.0, 1.0)}
    placement = place(chip(6), [], heads)  # two scores on core 0, four on core 1
    found = reached(placement, "q")
    assert found[0] == pytest.approx((0.5, 0.5 * 2 / 3))
    assert found[1] == pytest.approx((1.0, 0.5 * 1 / 3 + 0.5))


def test_two_targets_share_the_fan_out() -> None:
    """One message where both lie on one core."""
    both = [Population("a", 2, targets=("b", "c"), fan_out=2.0), Population("b", 2), Population("c", 2)]
    assert reached(place(chip(6), [], both), "a") == {0: (1.0, 1.0)}
    assert reached(place(chip(4), [], both), "a") == {0: (1.0, 0.5), 1: (1.0, 0.5)}
    wide = [Population("a", 2, targets=("b", "c"), fan_out=8.0), Population("b", 8), Population("c", 8)]
    found = reached(place(chip(6), [], wide), "a")  # each at four of b, on cores 0 and 1, and four of c, on 1 and 2
    assert found == {0: (0.5, 0.25), 1: (1.0, 0.25 + 0.125), 2: (1.0, 0.25 + 0.125)}


def test_neurons_that_are_columns() -> None:
    """Two populations share the columns of two cores; no neuron is counted twice, and no sum is sent."""
    driven = [
        Population("a", 4, ("w",)),
        Population("b", 3, targets=("d",), drivers=("w",), columns=(0, 2, 1)),
        Population("c", 1, drivers=("w",), columns=(3,)),
        Population("d", 3),
    ]
    placement = place(chip(4), [Layer("w", 4, 4)], driven, cores_per_layer=2)
    where = {piece.population: [] for piece in placement.neurons}  # type: dict[str, list[tuple[int, int]]]
    for piece in placement.neurons:
        where[piece.population].append((piece.core, piece.size))
    assert placement.weights[0].columns == (0, 2)
    assert where["b"] == [(0, 1), (1, 1), (0, 1)]
    assert where["c"] == [(1, 1)]
    assert where["a"] == [(0, 2), (1, 2)]  # spread over both cores of the layer
    assert sum(core.neurons for core in placement.cores) == 4 + 4 + 3
    assert placement.columns == {"b", "c"}
    assert currents_of(placement) == []


def test_columns_whose_tables_have_no_room() -> None:
    """They lie elsewhere, and are sent their sums."""
    driven = Population("b", 4, table_bits=40, drivers=("w",), columns=(0, 1, 2, 3))
    placement = place(chip(8, 64), [Layer("w", 2, 4)], [Population("a", 2, ("w",)), driven])
    assert placement.columns == frozenset()
    assert placement.neurons[-1].core == 1
    assert currents_of(placement) == [Current("w", 0, 1, 4)]
    assert sum(core.neurons for core in placement.cores) == 4 + 2 + 4


def test_columns_that_fire_at_too_many_cores() -> None:
    """Two columns on each of two cores fire at two cores, which takes four outgoing axons; sums take no axon."""
    layers = [Layer("w", 2, 4), Layer("v", 4, 2)]
    both = Population("b", 4, ("v",), drivers=("w",), columns=(0, 1, 2, 3))
    placement = place(replace(chip(8), axons_out=4, axons_in=4), layers, [both], cores_per_layer=2)
    assert placement.columns == {"b"}
    assert [core.axons_out for core in placement.cores] == [4, 4, 0, 0]
    assert [core.axons_in for core in placement.cores] == [2, 2, 4, 4]  # rows alone
    crowded = place(replace(chip(8), axons_out=3), layers, [both], cores_per_layer=2)
    assert crowded.columns == frozenset()
    assert max(core.axons_out for core in crowded.cores) <= 3


def test_sums_of_a_residual_stream() -> None:
    """They go from layer to layer, and from the last to neurons that do not lie on the core of their column."""
    layers = [Layer("v", 4, 4), Layer("w", 4, 4)]
    sums = [Population("a", 4, ("v",)), Population("b", 4, ("w",)), Population("norm", 4, drivers=("v", "w"))]
    placement = place(chip(8), layers, sums, cores_per_layer=2)
    assert {piece.core for piece in placement.weights if piece.layer == "w"} == {2, 3}
    assert currents_of(placement) == [Current("v", 0, 2, 2), Current("v", 1, 3, 2)]
    crowded = place(chip(4), layers, [*sums, Population("later", 4, drivers=("v", "w"))])
    where = {piece.population: piece.core for piece in crowded.neurons}
    assert currents_of(crowded) == [
        Current("w", 1, where["norm"], 4),
        Current("w", 1, where["later"], 4),
        Current("v", 0, 1, 4),
    ]
