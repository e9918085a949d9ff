"""Placement: each synapse on one core, once; no core over a limit; as few cores as the memory of weights asks for."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from las_sj.hardware.chip import CHIPS, Chip
from las_sj.hardware.costs import EventCosts
from las_sj.hardware.errors import ChipError, PlacementError
from las_sj.hardware.mesh import Mesh
from las_sj.hardware.placement import FITS, Layer, Placement, Population
from las_sj.hardware.placer import place
from las_sj.hardware.populations import weights_of

LOIHI = CHIPS["loihi"]
SMALL = Chip("small", Mesh(2, 2, 1), EventCosts("none"), 8, 256, 6, 16, weight_bits=8)


def check(placement: Placement, weight_bits: int) -> None:
    """Recount everything from the slices alone."""
    chip, cores = placement.chip, len(placement.cores)
    neurons, memory, axons_in, axons_out = ([0] * cores for _ in range(4))
    tables = set()
    for layer in placement.layers:
        pieces = [piece for piece in placement.weights if piece.layer == layer.name]
        covered = {(row, column) for piece in pieces for row in range(*piece.rows) for column in range(*piece.columns)}
        assert sum(piece.synapses for piece in pieces) == len(covered) == layer.synapses
        for piece in pieces:
            neurons[piece.core] += piece.columns[1] - piece.columns[0]
            memory[piece.core] += piece.synapses * weight_bits
            axons_in[piece.core] += piece.rows[1] - piece.rows[0]
    for population in placement.populations:
        pieces = [piece for piece in placement.neurons if piece.population == population.name]
        assert [neuron for piece in pieces for neuron in range(*piece.neurons)] == [*range(population.neurons)]
        for piece in pieces:
            neurons[piece.core] += piece.size
            axons_in[piece.core] += piece.size
            memory[piece.core] += piece.size * population.state_bits
            for neuron in range(*piece.neurons):
                fed = {
                    each.core
                    for each in placement.weights
                    if each.layer in population.layers and each.rows[0] <= neuron < each.rows[1]
                }
                axons_out[piece.core] += len(fed) if population.layers else 1
            if population.table_bits and (piece.core, population.name) not in tables:
                tables.add((piece.core, population.name))
                memory[piece.core] += population.table_bits
    limits = (
        (neurons, chip.neurons),
        (memory, chip.synapse_bits),
        (axons_in, chip.axons_in),
        (axons_out, chip.axons_out),
    )
    for counted, limit in limits:
        assert limit is None or max(counted, default=0) <= limit


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 100), st.integers(0, 40)), max_size=4),
    st.integers(1, 8),
    st.integers(1, 5),
)
def test_each_synapse_once_and_no_limit_exceeded(
    shapes: list[tuple[int, int]], others: list[tuple[int, int, int]], weight_bits: int, cores_per_layer: int
) -> None:
    layers = [Layer(f"layer {index}", *shape) for index, shape in enumerate(shapes)]
    populations = [Population(f"input {layer.name}", layer.rows, (layer.name,)) for layer in layers]
    populations += [Population(f"other {index}", size, (), *bits) for index, (size, *bits) in enumerate(others)]
    check(place(SMALL, layers, populations, weight_bits, cores_per_layer), weight_bits)
    assert place(SMALL, layers, populations, weight_bits) == place(SMALL, layers, populations, weight_bits)


def test_limits_that_bind() -> None:
    unlimited = replace(SMALL, neurons=None, synapse_bits=None, axons_in=None, axons_out=None)
    for limit, changes, cores in (
        ("none", {}, 1),
        ("neurons", {"neurons": 5}, 2),
        ("synapse memory", {"synapse_bits": 10 * 3 * 8}, 4),  # three columns of ten weights
        ("axons in", {"axons_in": 4}, 3),
    ):
        placement = place(replace(unlimited, **changes), [Layer("a", 10, 10)])
        assert placement.binding == {"a": limit}
        assert len(placement.cores) == placement.weight_cores == cores
    assert place(replace(unlimited, axons_in=4), [Layer("a", 10, 10)]).partial_sums == 10
    assert place(unlimited, [Layer("a", 10, 10)], cores_per_layer=5).binding == {"a": "cores per layer"}


def test_one_more_than_a_limit_needs_another_core() -> None:
    chip = replace(SMALL, synapse_bits=None, axons_in=None, axons_out=None)
    assert len(place(chip, [], [Population("a", 8)]).cores) == 1
    assert len(place(chip, [], [Population("a", 9)]).cores) == 2
    memory = replace(SMALL, axons_in=None)
    assert len(place(memory, [Layer("a", 4, 8)]).cores) == 1
    assert len(place(memory, [Layer("a", 4, 9)]).cores) == 2


def test_outgoing_axons_spread_a_population() -> None:
    """Four neurons that fire at five cores each need 20 axons, and a core has 16."""
    chip = replace(SMALL, neurons=None, synapse_bits=None, axons_in=None)
    placement = place(chip, [Layer("a", 4, 5)], [Population("input", 4, ("a",))], cores_per_layer=5)
    assert [(piece.core, piece.size) for piece in placement.neurons] == [(0, 1), (1, 1), (2, 1), (3, 1)]  # of five
    assert placement.binding["input"] == FITS
    placement = place(chip, [Layer("a", 20, 5)], [Population("input", 20, ("a",))], cores_per_layer=5)
    assert [(piece.core, piece.size) for piece in placement.neurons] == [*((core, 3) for core in range(6)), (6, 2)]
    assert placement.binding["input"] == "axons out"


def test_what_fits_nowhere() -> None:
    with pytest.raises(PlacementError, match="no core of small holds one weight of 257 bits"):
        place(SMALL, [Layer("a", 1, 1)], weight_bits=257)
    with pytest.raises(PlacementError, match="no core of small holds one neuron of exp, with its table of 300 bits"):
        place(SMALL, [], [Population("exp", 1, table_bits=300)])
    with pytest.raises(ValueError, match="populations name layers that are not there: b"):
        place(SMALL, [Layer("a", 1, 1)], [Population("p", 1, ("b",))])
    with pytest.raises(ValueError, match="layers must have different names"):
        place(SMALL, [Layer("a", 1, 1), Layer("a", 1, 1)])
    with pytest.raises(ValueError, match="a has 0 rows and 1 columns"):
        Layer("a", 0, 1)
    with pytest.raises(ChipError, match="neurons of small must be a whole number of 1 or more, or None, got 0"):
        replace(SMALL, neurons=0)


def test_llama_2_7b_without_its_weights() -> None:
    """A model that no machine here holds: 6.6 G synapses, by its layers alone."""
    shape = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
    with torch.device("meta"):
        layers = weights_of(LlamaForCausalLM(LlamaConfig(**shape, vocab_size=32000)))
    placement = place(LOIHI, layers)
    assert sum(layer.synapses for layer in layers) == 6_607_077_376
    assert len(placement.cores) == 50_728
    assert placement.chips == 397
    assert sum(piece.synapses for piece in placement.weights) == 6_607_077_376
    assert max(core.memory_bits for core in placement.cores) <= 1 << 20
    assert placement.binding["model.layers.0.mlp.down_proj"] == "axons in"


@pytest.mark.parametrize(
    ("layers", "cores"),
    [
        (6 * [(384, 384)] * 4 + 6 * [(384, 1536), (1536, 384)], 108),  # MiniLM-L6
        (30 * [(576, 576), (576, 192), (576, 192), (576, 576), *2 * [(576, 1536)], (1536, 576)] + [(576, 49152)], 1087),
    ],
)
def test_cores_that_weights_need(layers: list[tuple[int, int]], cores: int) -> None:
    """MiniLM-L6 and SmolLM2-135M: counted by hand, ⌈F / ⌊2^20 / 8C⌋⌉ for each layer."""
    named = [Layer(str(index), *shape) for index, shape in enumerate(layers)]
    inputs = [Population(f"input {layer.name}", layer.rows, (layer.name,)) for layer in named]
    placement = place(LOIHI, named, inputs)
    assert len(placement.cores) == placement.weight_cores == cores
