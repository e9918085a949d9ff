"""HGNode beside SpikingJelly's; step modes, extremes, ranges, settings."""

import math

import pytest
import torch
from hg_functions import (
    DTYPES,
    GRID,
    HALF,
    OCTAVE,
    POWERS,
    draw_inputs,
    grid_function,
    seeds,
    shapes,
)
from hypothesis import given
from hypothesis import strategies as st
from spikingjelly.activation_based.neuron import FewSpikeTable
from spikingjelly.activation_based.neuron import HGNode as ReferenceNode
from torch import Tensor

from las_sj.neurons import FUNCTIONS, HGNode
from las_sj.neurons.fitting import OctaveFit
from las_sj.neurons.population import CHUNK

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
