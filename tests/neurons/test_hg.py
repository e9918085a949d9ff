"""HGNode: its fits and their proven bounds, SpikingJelly's HGNode, extremes, gradients."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spikingjelly.activation_based.neuron import FewSpikeTable
from spikingjelly.activation_based.neuron import HGNode as ReferenceNode
from torch import Tensor

from las_sj.neurons import FUNCTIONS, HGNode
from las_sj.neurons.fitting import OctaveFit
from las_sj.neurons.functions import GridFunction, OctaveFunction
from las_sj.neurons.population import CHUNK

DTYPES = (torch.float32, torch.float64)
HALF = (torch.float16, torch.bfloat16)
GRID = [name for name, function in FUNCTIONS.items() if isinstance(function, GridFunction)]
OCTAVE = [name for name, function in FUNCTIONS.items() if isinstance(function, OctaveFunction)]
POWERS = [name for name in OCTAVE if name != "log"]
RELATIVE = ["exp", "exp_wide", *POWERS]
ACTIVATIONS = ["gelu", "gelu_tanh", "quick_gelu", "silu", "tanh", "sigmoid", "softplus", "mish", "erf"]
TIME_STEPS = (4, 8, 12, 16, 24)

shapes = st.lists(st.integers(0, 5), min_size=1, max_size=3)
seeds = st.integers(0, 2**32 - 1)


def grid_function(name: str) -> GridFunction:
    function = FUNCTIONS[name]
    assert isinstance(function, GridFunction)
    return function


def octave_function(name: str) -> OctaveFunction:
    function = FUNCTIONS[name]
    assert isinstance(function, OctaveFunction)
    return function


def dense(low: float, high: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.linspace(low, high, 50_001, dtype=dtype)


def octaves(bottom: float, top: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.exp2(torch.linspace(bottom, top, 50_001, dtype=torch.float64)).to(dtype)


def draw_inputs(node: HGNode, shape: list[int], seed: int, dtype: torch.dtype) -> Tensor:
    """Values in and around the range, break points and their neighbours, extremes."""
    generator = torch.Generator().manual_seed(seed)
    starts = node.gates.fit.lines.start.to(dtype)
    special = torch.cat([starts, torch.tensor([0.0, node.low, node.high, 1e-40, 1e30, torch.inf], dtype=dtype)])
    special = torch.cat([special, torch.nextafter(special, special + 1), torch.nextafter(special, special - 1)])
    special = torch.cat([special, -special])
    picked = special[torch.randint(len(special), shape, generator=generator)]
    uniform = (torch.rand(shape, generator=generator, dtype=dtype) * 2 - 1) * min(2 * node.high + 20, 40)
    return torch.where(torch.rand(shape, generator=generator) < 0.4, picked, uniform)


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


# SpikingJelly's HGNode


def reference_node(node: HGNode, dtype: torch.dtype) -> ReferenceNode:
    """Our sub-neurons as SpikingJelly's tables; a first step that always fires takes x to a_m and emits the bias."""
    lines = node.gates.fit.lines
    powers = 2.0 ** -torch.arange(1, node.time_steps + 1, dtype=torch.float64)
    start = lines.start - lines.shift
    tables = []
    for m in range(len(start)):
        digits = lines.width[m] * powers
        theta = torch.cat([digits.new_tensor([-1e30]), digits])
        h = torch.cat([start[m : m + 1], digits])
        d = torch.cat([lines.bias[m : m + 1], lines.amplitude[m] * powers])
        tables.append(FewSpikeTable(*(table.to(dtype) for table in (theta, h, d))))
    return ReferenceNode(tables, start[1:].to(dtype))


class Comparison:
    """Our output beside SpikingJelly's, for inputs in the core."""

    def __init__(self, node: HGNode, x: Tensor) -> None:
        lines, eps = node.gates.fit.lines, torch.finfo(x.dtype).eps
        shifted = x.double() + lines.shift[0]
        m = (torch.searchsorted(lines.start, shifted) - 1).clamp(min=0)
        codes = 2.0**node.time_steps
        position = (shifted - lines.start[m]) / lines.width[m] * codes  # in digits of the code
        # 1 / width is a fp32 number in our node; x has to be moved by a_m and the shift in both.
        slack = codes * (2.0**-22 + 4 * eps * (1 + x.double().abs() / lines.width[m]))
        self.near = (position - position.round()).abs() <= slack
        ours = node(x)
        self.difference = (ours - reference_node(node, x.dtype)(x)).double().abs()
        self.rounding = 2**-22 * (lines.bias.abs() + lines.amplitude.abs())[m]  # tables are fp32 numbers in our node
        # Across a break point two lines differ by up to both their errors.
        at_break_point = (position.round() == 0) | (position.round() == codes)
        self.digit = lines.amplitude.abs()[m] / codes + at_break_point * 2 * node.bound

    @property
    def differs(self) -> Tensor:
        return self.difference > self.rounding

    def check(self) -> None:
        assert bool((self.difference <= self.rounding + self.near * self.digit).all())


@pytest.mark.parametrize("name", GRID)
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_spikingjelly(name: str, dtype: torch.dtype) -> None:
    low, high = grid_function(name).core
    x = (torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=dtype) * (high - low) + low).clamp(low)
    compared = Comparison(HGNode(name, 8, tolerance=1e-3), x)
    compared.check()
    if dtype == torch.float64:
        assert compared.near.float().mean() < 1e-3
        assert not bool((compared.differs & ~compared.near).any())
    assert compared.differs.float().mean() <= 0.01


@given(st.sampled_from(("tanh", "gelu", "silu", "exp", "relu")), st.sampled_from(DTYPES), shapes, seeds, st.data())
def test_equals_spikingjelly_at_break_points(
    name: str, dtype: torch.dtype, shape: list[int], seed: int, data: st.DataObject
) -> None:
    node = HGNode(name, data.draw(st.sampled_from((1, 4, 8, 12))), tolerance=0.01)
    x = draw_inputs(node, shape, seed, dtype).clamp(*grid_function(name).core)
    Comparison(node, x).check()


# Step modes, extremes, range


@given(st.sampled_from(list(FUNCTIONS)), st.integers(1, 24), shapes, seeds, st.sampled_from(DTYPES))
def test_sum_of_train(name: str, time_steps: int, shape: list[int], seed: int, dtype: torch.dtype) -> None:
    single = HGNode(name, time_steps, tolerance=1e-3)
    multi = HGNode(name, time_steps, tolerance=1e-3, step_mode="m")
    single.count_spikes = multi.count_spikes = True
    x = draw_inputs(single, shape, seed, dtype)
    y, train = single(x), multi(x.unsqueeze(0))
    assert y.dtype == train.dtype == dtype
    assert train.shape == (time_steps, *shape)
    # Up to 24 currents and a bias, each no larger than a few times the output or, near a zero of f, than 1.
    size = 4 * y.abs() + (0 if name in POWERS else 8)
    infinite = y.isinf()
    assert torch.equal(y[infinite], train.sum(0)[infinite])
    difference = (y - train.sum(0))[~infinite].abs()
    assert bool((difference <= 25 * torch.finfo(dtype).eps * size[~infinite]).all())
    assert single.spike_count is not None
    assert multi.spike_count is not None
    assert torch.equal(single.spike_count, multi.spike_count)
    assert single.out_of_range == multi.out_of_range == single.count_out_of_range(x)


@pytest.mark.parametrize("name", list(FUNCTIONS))
@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_holds_values_only(name: str, dtype: torch.dtype) -> None:
    node = HGNode(name, 12)
    x = torch.linspace(0.01, 6, 500).to(dtype)
    assert node(x).dtype == dtype
    assert torch.equal(node(x), node(x.float()).to(dtype))
    node.step_mode = "m"
    assert node(x[None]).dtype == dtype
    assert torch.equal(node(x[None]), node(x[None].float()).to(dtype))


@pytest.mark.parametrize("name", list(FUNCTIONS))
@pytest.mark.parametrize("dtype", [*DTYPES, *HALF])
@pytest.mark.parametrize("sign", [1, -1])
def test_nan_stays_in_its_element(name: str, dtype: torch.dtype, sign: int) -> None:
    x = torch.linspace(0.1, 5, 7).to(dtype)
    spoilt = x.clone()
    spoilt[2] = torch.tensor(torch.nan).copysign(torch.tensor(sign))
    others = torch.arange(7) != 2
    for step_mode in ("s", "m"):
        node = HGNode(name, 8, step_mode=step_mode)
        clean, y = (node(values.unsqueeze(0) if step_mode == "m" else values) for values in (x, spoilt))
        total = y.sum(0) if step_mode == "m" else y
        assert total[2].isnan()
        assert torch.equal(y[..., others], clean[..., others])


def test_chunks_are_invisible() -> None:
    node = HGNode("gelu", 8)
    x = draw_inputs(node, [CHUNK + 4_465], 0, torch.float32)
    y, counted = node(x), node.out_of_range
    node.reset_counts()
    assert torch.equal(y, torch.cat([node(piece) for piece in x.split(30_000)]))
    assert node.out_of_range == counted > 0


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("exp", -torch.inf, 0.0),
        ("exp", -1e30, 0.0),
        ("gelu", -torch.inf, 0.0),
        ("gelu", torch.inf, torch.inf),
        ("silu", 1e30, 1e30),
        ("relu", -1e30, 0.0),
        ("tanh", torch.inf, 1.0),
        ("tanh", -1e30, -1.0),
        ("sigmoid", -torch.inf, 0.0),
        ("sigmoid", torch.inf, 1.0),
        ("softplus", -1e30, 0.0),
        ("softplus", torch.inf, torch.inf),
        ("mish", -torch.inf, 0.0),
        ("mish", 1e30, 1e30),
        ("erf", -torch.inf, -1.0),
        ("erf", 1e30, 1.0),
        ("exp_wide", -torch.inf, 0.0),
        ("sqrt", 0.0, 2.0**-30),  # the least octave
        ("log", 0.0, -60 * math.log(2)),
        ("log", torch.inf, 63 * math.log(2)),
    ],
)
def test_extremes(name: str, x: float, expected: float, step_mode: str) -> None:
    y = HGNode(name, 8, step_mode=step_mode)(torch.tensor([[x]]))
    assert float(y.sum()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("gelu", 3),
        ("quick_gelu", 3),
        ("silu", 2),  # its core reaches to 16
        ("relu", 3),
        ("tanh", 0),
        ("exp", 5),  # all above 0
        ("exp_wide", 2),  # above 20
        ("sin", 4),  # beyond 32 on either side
        ("sigmoid", 0),
        ("mish", 2),
        ("erf", 0),
        ("rsqrt", 4 + 2),  # negative ones, and two beyond 16
        ("log", 4 + 2),
        ("square", 4),  # as large on either side
    ],
)
def test_out_of_range(name: str, count: int, step_mode: str) -> None:
    """Counted where the function goes on, not where it is flat."""
    x = torch.tensor([[-1e30, -torch.inf, -11.0, -9.0, 0.5, 9.9, 10.1, 1e30, torch.inf, torch.nan]])
    node = HGNode(name, 8, low=2.0**-10 if name in OCTAVE else -10, high=10, step_mode=step_mode)
    node(x)
    assert node.out_of_range == count
    node.reset_counts()
    assert node.out_of_range == 0


def test_out_of_range_is_counted_once_with_gradients() -> None:
    node = HGNode("gelu", 8)
    node(torch.tensor([100.0, 1.0], requires_grad=True))
    assert node.out_of_range == 1


def test_powers_beyond_the_range() -> None:
    """Further octaves, and a count: infinities and zero end at the last octave there is."""
    node = HGNode("square", 16, high=4.0)
    x = torch.tensor([-5.0, 4.0, 0.0, 1e-30])
    torch.testing.assert_close(node(x), x.square(), rtol=1e-4, atol=1e-30)
    assert node.out_of_range == 1
    node = HGNode("rsqrt", 16)
    y = node(torch.tensor([0.0, -1.0, torch.inf]))
    assert y[0] == y[1] > 1e9
    assert 0 < y[2] < 1e-9
    assert node.out_of_range == 3


def test_range() -> None:
    node = HGNode("gelu", 12)
    assert (node.low, node.high) == (-6, 6)
    node.set_range(-1, 1)
    assert (node.low, node.high) == (-6, 6)
    fewer, bound = node.sub_neurons, node.bound
    node.set_range(-50, 1000)
    assert (node.low, node.high) == (-50, 1000)
    assert node.sub_neurons > fewer
    assert node.bound > bound
    node = HGNode("exp", 12, -30, 5)
    assert (node.low, node.high) == (-30, 0)  # above 0 the neuron stays at 1
    node = HGNode("rsqrt", 12, low=0.3, high=3.0)
    assert (node.low, node.high) == (2.0**-38, 4)
    node.set_range(1e-15, None)
    assert (node.low, node.high) == (2.0**-50, 2.0**20)
    node.set_range(1e-30, 1e30)  # 2^-60 … 2^63 is what there is
    assert (node.low, node.high) == (2.0**-60, 2.0**63)


def test_held_ends_are_watched() -> None:
    """A wave goes on where the neuron stays at the end of its core; softmax gives exp no inputs above 0."""
    watched = [name for name in FUNCTIONS if not HGNode(name, 8).extends]
    sloped = ["gelu", "gelu_tanh", "quick_gelu", "silu", "relu", "softplus", "mish"]
    assert sorted(watched) == sorted([*sloped, "exp_wide", "sin", "cos"])


def test_sub_neurons() -> None:
    node = HGNode("square", 8)
    assert isinstance(node.gates.fit, OctaveFit)
    assert node.sub_neurons == 2 * 40 * node.gates.fit.per_octave
    node = HGNode("exp", 8)
    assert node.sub_neurons == len(node.gates.fit.lines.start) + 1  # 0 below


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("function", {"function": "sine"}),
        *(("time_steps", {"time_steps": value}) for value in (0, 25, 1.5, True)),
        *(("tolerance", {"tolerance": value}) for value in (0.0, -1e-3, 1.0, math.nan)),
        *(("low", {"low": value}) for value in (math.nan, -math.inf)),
        *(("high", {"high": value}) for value in (math.nan, math.inf)),
        ("low and high", {"function": "square", "low": -1.0}),
        ("low and high", {"function": "rsqrt", "high": -1.0}),
    ],
)
def test_bad_settings(field: str, settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=field):
        HGNode(**({"function": "gelu", "time_steps": 8} | settings))  # type: ignore[arg-type]


# Gradients


def slopes(node: HGNode, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    y = node(x) if node.step_mode == "s" else node(torch.stack([x / 4, x * 3 / 4]))
    weight = torch.arange(1, len(x) + 1, dtype=x.dtype)
    (gradient,) = torch.autograd.grad((y * weight).sum(), x)
    return gradient / weight


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("name", GRID)
def test_gradient_is_the_slope_of_the_sub_neuron(name: str, step_mode: str) -> None:
    function, node = grid_function(name), HGNode(name, 16, step_mode=step_mode)
    low, high = function.core
    x = torch.rand(500, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * (high - low) + low
    lines = node.gates.fit.lines
    m = torch.searchsorted(lines.start, x + lines.shift[0]) - 1
    torch.testing.assert_close(slopes(node, x), (lines.amplitude / lines.width)[m], rtol=1e-6, atol=1e-9)
    tails = slopes(node, torch.tensor([low - 1, low - 1e3, high + 1, high + 1e3], dtype=torch.float64))
    below = function.below.slope if function.below else 0.0
    above = function.above.slope if function.above else 0.0
    assert tails.tolist() == pytest.approx([below, below, above, above], abs=1e-12)


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_gradient_is_close_to_the_derivative(name: str, step_mode: str) -> None:
    function, node = FUNCTIONS[name], HGNode(name, 16, step_mode=step_mode)
    x = octaves(-6, 6)
    if isinstance(function, GridFunction):
        x = dense(*function.core)
    elif function.even:
        x = torch.cat([x, -x])
    exact = x.clone().requires_grad_()
    (derivative,) = torch.autograd.grad(function.exact(exact).sum(), exact)
    relative = name in RELATIVE or name == "log"
    # A chord within 1e-5 of f has a slope within about √(2e-5·|f''|) of f'.
    error = (slopes(node, x) - derivative).abs()[1:-1] / (derivative.abs() if relative else 1.0 + 0 * x)[1:-1]
    assert error.max() < 0.01
    assert error.max() > 0 or name == "relu"


def test_gradient_in_half_precision() -> None:
    x = torch.tensor([-1.0, 0.5, 20.0], dtype=torch.float16, requires_grad=True)
    (gradient,) = torch.autograd.grad(HGNode("gelu", 12)(x).sum(), x)
    assert gradient.dtype == torch.float16
    torch.testing.assert_close(gradient, torch.tensor([-0.0833, 0.8673, 1.0]).half(), atol=0.01, rtol=0)
