"""HGNode within a number of lines: what it stores, the bound of its error, break points, ranges."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from hg_functions import GRID, OCTAVE, POWERS, dense, draw_inputs, seeds
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from las_sj.neurons import FUNCTIONS, HGNode, SeenValues
from las_sj.neurons.free_break_points import _break_points, _Runs
from las_sj.neurons.functions import GridFunction
from las_sj.neurons.line_budget import rounded_outwards

RANGES = ((None, None), (-2.0, 1.5), (-30.0, 70.0), (0.3, 0.4), (20.0, 50.0))
budgets = st.sampled_from((8, 20))


def within(name: str, time_steps: int, lines: int, ends: tuple[float | None, float | None]) -> HGNode:
    low, high = ends if name in GRID else tuple(None if end is None else abs(end) for end in ends)
    return HGNode(name, time_steps, low, high, lines=lines)


# What is stored


def test_lines_of_powers() -> None:
    """Those of one period: an octave for squares and 1/x, two for roots; an even function has each on both sides."""
    counts = {name: (node.sub_neurons, node.stored_lines) for name in OCTAVE for node in (HGNode(name, 16),)}
    assert counts == {
        "reciprocal": (40 * 256, 256),
        "rsqrt": (40 * 128, 2 * 128),
        "sqrt": (40 * 64, 2 * 64),
        "square": (2 * 40 * 256, 256),
        "log": (40 * 128, 128),
    }
    node = HGNode("square", 16, lines=100)
    assert (node.sub_neurons, node.stored_lines) == (2 * 40 * 64, 64)
    node = HGNode("rsqrt", 16, lines=100)
    assert (node.sub_neurons, node.stored_lines) == (40 * 32, 2 * 32)


def test_lines_of_activations() -> None:
    """Each sub-neuron has its own; without a limit those of exp too, which do not lie at multiples of ln 2."""
    for name in ("silu", "tanh", "exp"):
        node = HGNode(name, 16, tolerance=1e-3)
        assert node.stored_lines == node.sub_neurons
    node = HGNode("silu", 10, -20.0, 60.0, lines=64)
    assert (node.high, node.gates.tail_width) == (64, 2)
    assert node.stored_lines == node.sub_neurons == len(node.gates.fit.lines.start) + 1 + (64 - 16) / 2


@pytest.mark.parametrize("lines", [8, 33, 256])
@pytest.mark.parametrize("name", ["exp", "exp_wide"])
def test_exponentials_share_lines(name: str, lines: int) -> None:
    """Parameters of a sub-neuron are those of the one that is an octave of outputs lower, doubled, to the last bit."""
    node = HGNode(name, 12, lines=lines)
    shared = node.stored_lines - 1  # 0 below the core
    assert shared == min(lines - 1, math.ceil(math.log(2) / math.sqrt(8e-5)))
    for table in (node.get_buffer("bias"), node.get_buffer("amplitude")):
        assert torch.equal(table[shared:], 2 * table[:-shared])
    assert len(node.get_buffer("inverse_width").unique()) == 1
    low, high = node.function.core  # type: ignore[union-attr]
    assert abs(node.sub_neurons - 1 - (high - low) / math.log(2) * shared) <= 2


# Errors


@settings(max_examples=40)
@given(st.sampled_from(list(FUNCTIONS)), st.sampled_from((4, 12, 24)), budgets, st.sampled_from(RANGES), seeds)
def test_bound(name: str, time_steps: int, lines: int, ends: tuple[float | None, float | None], seed: int) -> None:
    """At break points, next to them, and anywhere else in the range; and no more lines than allowed."""
    node = within(name, time_steps, lines, ends)
    assert 1 <= node.stored_lines <= min(lines, node.sub_neurons)
    low, high = node.gates.ends()
    least = -20.0 if name in ("exp", "exp_wide") else -200.0  # below, the absolute bound alone holds
    low, high = max(low, node.low, least), min(high, node.high, 200.0)
    x = torch.cat([draw_inputs(node, [500], seed, torch.float64), torch.linspace(low, high, 500, dtype=torch.float64)])
    x = x.clamp(low, high)
    exact = node.function.exact(x)
    error = (node(x) - exact).abs()
    assert bool((error <= node.bound * (1 + 1e-9)).all())
    assert bool((error <= node.relative_bound * exact.abs()).all()) or node.relative_bound == math.inf
    assert node.out_of_range == 0


@pytest.mark.parametrize("lines", [8, 32, 256])
@pytest.mark.parametrize("time_steps", [8, 16])
@pytest.mark.parametrize("name", ["gelu", "silu", "sigmoid", "sin", "exp", *POWERS])
def test_bound_means_something(name: str, time_steps: int, lines: int) -> None:
    node = HGNode(name, time_steps, lines=lines)
    x = dense(node.low, node.high) if isinstance(node.function, GridFunction) else dense(1, 4)
    exact = node.function.exact(x)
    error = (node(x) - exact).abs()
    if math.isfinite(node.relative_bound):
        assert node.relative_bound / 4 < (error / exact.abs()).max() <= node.relative_bound
    else:
        assert node.bound / 4 < error.max() <= node.bound


@pytest.mark.parametrize("name", ["gelu", "silu", "tanh", "exp", "square"])
def test_lines_buy_precision(name: str) -> None:
    """A fourth of the error for twice the lines; the least one is that of the tolerance."""
    nodes = [HGNode(name, 20, lines=lines) for lines in (16, 32, 64, 1024)]
    bounds = [bound_of(node) for node in nodes]
    assert all(3 < coarse / fine < 6 for coarse, fine in pairwise(bounds[:3]))
    assert bounds[3] < 1.5 * bound_of(HGNode(name, 20))
    assert nodes[3].stored_lines < 500


def bound_of(node: HGNode) -> float:
    return node.relative_bound if math.isfinite(node.relative_bound) else node.bound


def least_error(runs: _Runs, lines: int) -> float:
    """The least of the largest errors of so many sub-ranges, by trying all break points."""
    count = len(runs.values)
    best = [0.0] + [math.inf] * (count - 1)
    for _ in range(lines):
        best = [0.0] + [
            min(max(best[first], runs.error(first, last)) for first in range(last)) for last in range(1, count)
        ]
    return best[-1]


@pytest.mark.parametrize("name", ["gelu", "tanh", "sin"])
@pytest.mark.parametrize(("lines", "expected"), [(1, 1.0), (3, 1e-6), (5, 0.01), (12, 0.01)])
def test_break_points_are_nearly_the_best(name: str, lines: int, expected: float) -> None:
    """Longer sub-ranges can have smaller errors, where f bends both ways, so that growing them is not always best."""
    values = FUNCTIONS[name].exact(torch.linspace(-6, 6, 97, dtype=torch.float64))
    runs = _Runs(values, torch.ones_like(values), 16)
    breaks = _break_points(runs, lines, 1e-7, expected)
    assert len(breaks) - 1 <= lines
    assert breaks[0] == 0 < breaks[-1] == 96
    largest = max(runs.error(first, last) for first, last in pairwise(breaks))
    assert largest <= 1.35 * least_error(runs, lines)


# The range


def test_lines_serve_the_range() -> None:
    """Beyond it inputs are counted, also where the function is flat in the end, and coded less well, not lost."""
    narrow, whole = HGNode("gelu", 16, -1.0, 1.0, lines=32), HGNode("gelu", 16, lines=32)
    assert narrow.bound < whole.bound / 1.8
    assert (narrow(dense(-1, 1)) - torch.nn.functional.gelu(dense(-1, 1))).abs().max() <= narrow.bound
    assert narrow.out_of_range == 0
    x = torch.tensor([-1e30, -7.0, -1.01, -1.0, 0.0, 1.0, 1.01, 5.0, 7.0, 1e30], dtype=torch.float64)
    error = (narrow(x) - torch.nn.functional.gelu(x)).abs()
    assert narrow.out_of_range == 7
    assert error[1:-1].max() < 0.05
    assert not narrow.extends
    assert whole.extends == HGNode("gelu", 16).extends


def test_a_range_that_ends_where_a_function_is_flat_counts_there() -> None:
    narrow, whole = (HGNode("tanh", 16, *ends, lines=16) for ends in ((-2.0, 2.0), (-9.0, 9.0)))
    for node, expected in ((narrow, 3), (whole, 0)):
        node(torch.tensor([-10.0, -1.9, 2.1, 100.0]))
        assert node.out_of_range == expected
    assert whole.extends
    assert not narrow.extends


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_ranges_are_rounded_outwards(low: float, high: float) -> None:
    """To three digits, and once: a range that was rounded stays."""
    rounded = rounded_outwards(low, high)
    assert rounded[0] <= low
    assert rounded[1] >= high
    for end, given_end in zip(rounded, (low, high), strict=True):
        assert abs(end - given_end) <= abs(given_end) / 4 + 1e-300
    assert rounded_outwards(*rounded) == rounded


def test_neurons_of_about_the_same_range_share_their_tables() -> None:
    first, second = (HGNode("silu", 16, low, 9.1, lines=32) for low in (-9.1, -9.7))
    assert (first.low, first.high) == (second.low, second.high) == (-10, 10)
    assert first.gates.tables() is second.gates.tables()
    assert first.get_buffer("bias") is not second.get_buffer("bias")


@pytest.mark.parametrize("ends", [(3.0, 3.0), (5.0, -5.0)])
def test_no_range_is_the_whole_core(ends: tuple[float, float]) -> None:
    node = HGNode("gelu", 16, *ends, lines=32)
    assert (node.low, node.high) == ((-6, 6) if ends[0] > ends[1] else (node.low, node.high))
    assert node.low < node.high


def test_calibration_gives_the_range_that_it_saw() -> None:
    """With headroom on both ends, also of values that are all positive."""
    seen = SeenValues()
    seen.add(torch.tensor([0.5, 2.0]))
    for name, expected in (("silu", (0.5 / 1.5, 3.0)), ("exp", (-20.0, 0.0))):
        node = HGNode(name, 16, lines=32)
        node.calibrate(seen, 1.5)
        assert (node.low, node.high) == (rounded_outwards(*expected) if name == "silu" else expected)
        assert node.get_buffer("bias").shape == node.gates.tables()["bias"].shape


def test_limits_can_be_changed() -> None:
    """Tables become those of a new neuron, in their own precision; without a limit the range contains the core."""
    node = HGNode("silu", 12, -2.0, 3.0, lines=16).double()
    node.limit(40)
    assert_tables_of(node, HGNode("silu", 12, -2.0, 3.0, lines=40).double())
    node.limit(None)
    assert_tables_of(node, HGNode("silu", 12).double())
    assert (node.low, node.high) == (-16, 16)
    node.limit(40)
    node.set_range(-2.0, 3.0)
    assert_tables_of(node, HGNode("silu", 12, -2.0, 3.0, lines=40).double())
    assert node.gates.tables()["bias"].dtype == torch.float32
    node.refit(1e-2)
    assert (node.lines, node.low, node.high) == (40, -16, 16)
    assert node.stored_lines < 30


def assert_tables_of(node: HGNode, expected: HGNode) -> None:
    found = dict(node.named_buffers())
    for name, table in expected.named_buffers():
        assert torch.equal(found[name], table)
        assert found[name].dtype == table.dtype
    assert [*node.faults()] == []
    x = dense(-4, 4)
    assert torch.equal(node(x), expected(x))


def test_a_copy_has_its_own_range() -> None:
    node = HGNode("gelu", 12, -2.0, 2.0, lines=20)
    other = copy.deepcopy(node)
    other.set_range(-6.0, 6.0)
    assert (node.low, other.low) == (-2, -6)
    assert [*node.faults()] == [*other.faults()] == []


def test_slopes() -> None:
    """The gradient is the slope of the line, close to that of the function."""
    node = HGNode("silu", 16, -3.0, 3.0, lines=32)
    x = torch.linspace(-2.9, 2.9, 400, dtype=torch.float64)
    assert (gradient(node, x) - gradient(torch.nn.functional.silu, x)).abs().max() < 0.1


def gradient(function: object, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]  # type: ignore[operator]


@pytest.mark.parametrize("lines", [0, 7, 1025, 8.0, "8", True])
def test_bad_limits(lines: object) -> None:
    with pytest.raises(ValueError, match="lines must be an integer in 8…1024 or None"):
        HGNode("gelu", 8, lines=lines)  # type: ignore[arg-type]
