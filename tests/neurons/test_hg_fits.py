"""HGNode: how close its fits are to the functions, their proven bounds, and what the proofs rest on."""

import math

import pytest
import torch
from hg_functions import (
    ACTIVATIONS,
    DTYPES,
    GRID,
    OCTAVE,
    POWERS,
    RELATIVE,
    TIME_STEPS,
    dense,
    grid_function,
    octave_function,
    octaves,
)
from hypothesis import given
from hypothesis import strategies as st

from las_sj.neurons import FUNCTIONS, HGNode
from las_sj.neurons.functions import GridFunction

# Accuracy


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_at_16_steps(name: str, dtype: torch.dtype) -> None:
    low, high = grid_function(name).core
    x = dense(2 * low, 2 * high, dtype)
    exact = FUNCTIONS[name].exact(x.double())
    for node in (HGNode(name, 16), HGNode(name, 16, 2 * low, 2 * high)):
        assert (node(x) - exact).abs().max() < 2e-4


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_at_16_steps(dtype: torch.dtype) -> None:
    x = dense(-20, 0, dtype)
    exact = x.double().exp()
    error = (HGNode("exp", 16)(x) - exact).abs()
    assert error.max() < 1e-4
    assert (error / exact).max() < 1e-3
    assert HGNode("exp", 16)(dense(-40, -20, dtype)).abs().max() < 1e-8


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_on_both_sides_at_16_steps(dtype: torch.dtype) -> None:
    x = dense(-20, 20, dtype)
    exact = x.double().exp()
    assert ((HGNode("exp_wide", 16)(x) - exact) / exact).abs().max() < 1e-4


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_waves_at_16_steps(name: str, dtype: torch.dtype) -> None:
    """Within ten turns; a range from calibration changes nothing, since no line leads on from there."""
    x = dense(-32, 32, dtype)
    for node in (HGNode(name, 16), HGNode(name, 16, -100.0, 100.0)):
        assert (node.low, node.high) == (-32, 32)
        assert (node(x) - FUNCTIONS[name].exact(x.double())).abs().max() < 1e-4


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_over_40_octaves(dtype: torch.dtype) -> None:
    x = octaves(-20, 20, dtype)
    node = HGNode("log", 16)
    assert (node(x) - x.double().log()).abs().max() < 2e-5
    assert node.bound < 2e-5
    assert node.out_of_range == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", POWERS)
def test_powers_over_40_octaves(name: str, dtype: torch.dtype) -> None:
    function = octave_function(name)
    x = octaves(-20, 20, dtype)
    x = torch.cat([x, -x]) if function.even else x
    exact = function.exact(x.double())
    node = HGNode(name, 16)
    assert ((node(x) - exact) / exact).abs().max() < 2e-4
    assert node.out_of_range == 0


def test_relu_is_exact_but_for_the_code() -> None:
    x = dense(-3, 3)
    assert (HGNode("relu", 16, -3, 3)(x) - x.relu()).abs().max() < 3 * 2**-17


@pytest.mark.parametrize("time_steps", TIME_STEPS)
@pytest.mark.parametrize("name", GRID)
def test_bound_of_grid_functions(name: str, time_steps: int) -> None:
    """Proven for exact arithmetic and fp32 tables, so measured in fp64; and close enough to mean something."""
    low, high = grid_function(name).core
    node = HGNode(name, time_steps, 1.5 * low, 3 * high)
    x = torch.cat([dense(node.low, node.high), node.gates.fit.lines.start.nextafter(torch.tensor(-100.0).double())])
    x = x.clamp(node.low, node.high)
    error = (node(x) - FUNCTIONS[name].exact(x)).abs()
    assert error.max() <= node.bound * (1 + 1e-9)  # fp64
    assert error.max() > node.bound / 4
    inside = (x >= low) & (x <= high)
    assert math.isfinite(node.relative_bound) == (name in RELATIVE)
    if name in RELATIVE:
        assert (error / x.exp())[inside].max() <= node.relative_bound
    assert node.out_of_range == 0


@pytest.mark.parametrize("time_steps", TIME_STEPS)
def test_bound_of_the_logarithm(time_steps: int) -> None:
    node = HGNode("log", time_steps)
    x = torch.cat([octaves(-20, 20), octaves(-1, 3)])
    error = (node(x) - x.log()).abs()
    assert node.bound / 4 < error.max() <= node.bound
    assert node.relative_bound == math.inf  # log 1 = 0


@pytest.mark.parametrize("time_steps", TIME_STEPS)
@pytest.mark.parametrize("name", POWERS)
def test_bound_of_powers(name: str, time_steps: int) -> None:
    node = HGNode(name, time_steps)
    x = torch.cat([octaves(-20, 20), octaves(-1, 3)])
    exact = FUNCTIONS[name].exact(x)
    error = (node(x) - exact).abs()
    assert (error / exact).max() <= node.relative_bound
    assert (error / exact).max() > node.relative_bound / 4
    assert error.max() <= node.bound


@given(st.sampled_from(list(FUNCTIONS)), st.sampled_from(TIME_STEPS), st.sampled_from((1e-5, 1e-3)), st.data())
def test_bound_anywhere(name: str, time_steps: int, tolerance: float, data: st.DataObject) -> None:
    node = HGNode(name, time_steps, tolerance=tolerance)
    hard = [start for start in node.gates.fit.lines.start.tolist() if node.low <= start <= node.high]
    values = st.one_of(st.sampled_from(hard), st.floats(node.low, node.high))
    x = torch.tensor(data.draw(st.lists(values, min_size=1, max_size=20)), dtype=torch.float64)
    exact = FUNCTIONS[name].exact(x)
    error = (node(x) - exact).abs()
    assert bool((error <= node.bound * (1 + 1e-9)).all())
    assert bool((error <= node.relative_bound * exact.abs()).all()) or node.relative_bound == math.inf


@pytest.mark.parametrize("name", ["gelu", "exp", "rsqrt"])
def test_tolerance_buys_sub_neurons(name: str) -> None:
    fine, coarse = HGNode(name, 16), HGNode(name, 16, tolerance=1e-3)
    assert coarse.sub_neurons < fine.sub_neurons / 4
    assert coarse.relative_bound > fine.relative_bound or coarse.bound > fine.bound


# What the proofs rest on


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_curvature_is_the_second_derivative(name: str) -> None:
    function = FUNCTIONS[name]
    x = dense(*function.core)[1:-1] if isinstance(function, GridFunction) else octaves(-3, 3)
    x = x.requires_grad_()
    (first,) = torch.autograd.grad(function.exact(x).sum(), x, create_graph=True)
    second = torch.autograd.grad(first.sum(), x)[0] if first.requires_grad else torch.zeros_like(x)
    torch.testing.assert_close(function.curvature(x.detach()), second, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", GRID)
def test_third_derivative_is_bounded(name: str) -> None:
    """`third` bounds |f'''|; where it is 0, f'' is monotone."""
    function = grid_function(name)
    if function.third == 0:
        steps = function.curvature(dense(*function.core)).diff()
        assert bool((steps >= 0).all()) or bool((steps <= 0).all())
        return
    x = dense(*function.core).requires_grad_()
    derivative = function.exact(x)
    for _ in range(3):
        (derivative,) = torch.autograd.grad(derivative.sum(), x, create_graph=True)
    largest = float(derivative.detach().abs().max())
    assert largest <= function.third
    assert largest > function.third / 2


@pytest.mark.parametrize("name", GRID)
def test_tails_are_close_to_the_function(name: str) -> None:
    function = grid_function(name)
    low, high = function.core
    sides = ((function.below, dense(low - 30, low)), (function.above, dense(high, high + 30)))
    for tail, x in sides:
        if tail is not None:
            assert (tail.intercept + tail.slope * x - function.exact(x)).abs().max() < 2e-5


@pytest.mark.parametrize("name", OCTAVE)
def test_octaves_repeat(name: str) -> None:
    function = octave_function(name)
    x = octaves(0, function.period)
    repeated = function.exact(x) * 2.0**function.gain + function.step
    torch.testing.assert_close(function.exact(x * 2**function.period), repeated)
    steps = function.curvature(x).diff()
    assert bool((steps >= 0).all()) or bool((steps <= 0).all())
    assert bool((function.curvature(x) > 0).all()) or bool((function.curvature(x) < 0).all())
