"""Counts of inputs out of range, on the host and on devices that keep adding to them."""

import copy

import torch

from las_sj.neurons import MTNode
from las_sj.neurons.counts import NodeCounts


def counts_with(counter: torch.Tensor) -> NodeCounts:
    counts = NodeCounts()
    counts.counters.append(counter)
    return counts


def test_what_devices_add_is_part_of_the_sum() -> None:
    counter = torch.zeros((), dtype=torch.int64)
    counts = counts_with(counter)
    counts.add(10, 2)
    counter += 3
    assert int(counts.out_of_range) == 5
    counts.mark()
    counter += 4
    counts.add(10, 0)
    assert (counts.recent[0], int(counts.recent[1])) == (10, 4)


def test_a_reset_leaves_counters_where_kernels_know_them() -> None:
    counter = torch.ones((), dtype=torch.int64)
    counts = counts_with(counter)
    counts.reset()
    counter += 6
    assert counts.counters[0] is counter
    assert int(counts.out_of_range) == 6


def test_only_counters_of_devices_must_be_fetched() -> None:
    assert not NodeCounts().is_elsewhere
    assert counts_with(torch.zeros((), dtype=torch.int64)).is_elsewhere


def test_populations_keep_their_counters_and_copies_have_their_own() -> None:
    node = MTNode(1.0, 4)
    x = torch.zeros(3)
    counter = node.population.counter(x)
    assert node.population.counter(x) is counter
    assert counter.shape == (1, 3)
    counter[0, 2] = 5
    other = copy.deepcopy(node)
    other.population.counter(x)[0, 2] += 1
    assert (node.out_of_range, other.out_of_range) == (5, 6)


def test_each_population_of_a_layer_has_its_row() -> None:
    first, last = MTNode(1.0, 4), MTNode(1.0, 4)
    counter = last.population.counter(torch.zeros(3), (first, last))
    counter[0, 2], counter[1, 2] = 7, 8
    assert (first.out_of_range, last.out_of_range) == (7, 8)
