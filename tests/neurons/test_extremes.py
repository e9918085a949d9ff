"""Numbers at the ends of their type: every engine does the same with them, and what the neuron is defined to do."""

import math
from typing import Any

import emulated_gpu
import pytest
import torch
from engines import ENGINES, assert_same, run_on, threshold_node
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from las_sj.neurons import FUNCTIONS, HGNode, MTNode, OATNode
from las_sj.neurons.code import emit_steps
from las_sj.neurons.kernels import host

DTYPES = (torch.float32, torch.float64)
HALF = (torch.float16, torch.bfloat16)
LINEAR = ("gelu", "gelu_tanh", "quick_gelu", "silu", "relu", "softplus", "mish")  # towards +∞

settings_of_codes = st.fixed_dictionaries(
    {
        "time_steps": st.integers(1, 24),
        "levels": st.sampled_from((1, 2, 15, 127)),
        "rounding": st.sampled_from(("nearest", "floor")),
        "max_spikes": st.sampled_from((None, 1, 3, 24, 2**31, 2**32 + 1, 10**30)),
    }
)
needs_compiler = pytest.mark.skipif(host.load() is None, reason="no C++ compiler")


@pytest.fixture(autouse=True, scope="module")
def emulated_launch() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        emulated_gpu.instead_of_a_gpu(patch)
        yield


@st.composite
def currents(draw: st.DrawFn, dtype: torch.dtype, channels: int = 1) -> Tensor:
    """Windows of no, one or more rows, [steps, rows, channels]."""
    ends = torch.finfo(dtype)
    sizes = [0.0, ends.smallest_normal, ends.smallest_normal / 8, ends.tiny, 1.0, 20.0, 2.0**24 + 2, 1e38, 3.4e38]
    special = [*sizes, ends.max, ends.max / 2, ends.max / 127, math.inf, math.nan]
    numbers = st.sampled_from(special) | st.floats(0, float(ends.max), width=32 if dtype != torch.float64 else 64)
    steps, rows = draw(st.integers(1, 3)), draw(st.sampled_from((0, 1, 2, 17)))
    count = steps * rows * channels
    signed = st.tuples(numbers, st.sampled_from((1.0, -1.0))).map(math.prod)
    values = draw(st.lists(signed, min_size=count, max_size=count))
    return torch.tensor(values, dtype=torch.float64).to(dtype).view(steps, rows, channels)


def step_by_step(node: MTNode | OATNode, v: Tensor) -> tuple[Tensor, Tensor]:
    """The train and its sum as they are defined: one step after the other."""
    unit = node.alpha_of(v.abs(), 0.5 / node.code.levels)
    steps = list(emit_steps(v / unit, node.code))
    return torch.stack(steps) * unit, sum(steps[1:], steps[0]) * unit


@needs_compiler
@given(
    st.sampled_from(ENGINES),
    st.sampled_from(("mt", "mt-channel", "oat", "oat-channel")),
    settings_of_codes,
    st.booleans(),
    st.sampled_from((*DTYPES, *HALF)),
    st.data(),
)
def test_thresholds(
    engine: str, kind: str, settings: dict[str, Any], as_train: bool, dtype: torch.dtype, data: st.DataObject
) -> None:
    node, x = threshold_node(kind, settings), data.draw(currents(dtype, 3))
    assert_same(run_on(engine, node, x, as_train), run_on("torch", node, x, as_train))


@needs_compiler
@pytest.mark.parametrize("engine", ["torch", *ENGINES])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rounding", ["nearest", "floor"])
@pytest.mark.parametrize("levels", [1, 15, 127])
@pytest.mark.parametrize("time_steps", [1, 8, 24])
def test_beyond_the_range_the_steps_are_summed_in_order(
    time_steps: int, levels: int, rounding: str, dtype: torch.dtype, engine: str
) -> None:
    """More bits than a number of the type has: the order is part of the result."""
    node = threshold_node("oat", {"time_steps": time_steps, "levels": levels, "rounding": rounding})
    x = torch.tensor([20.1, 25.0, 39.9, 41.0, 1e6, 1e38, 3.4e38, math.inf, -20.1, -math.inf], dtype=dtype)
    train, total = step_by_step(node, x)
    assert torch.equal(run_on(engine, node, x[None], True).emitted, train)
    assert torch.equal(run_on(engine, node, x[None], False).emitted, total)


@needs_compiler
@given(
    st.sampled_from(ENGINES),
    st.sampled_from(list(FUNCTIONS)),
    st.integers(1, 24),
    st.sampled_from((1e-7, 1e-5, 0.1)),
    st.sampled_from((None, 100.0, 1e20)),
    st.booleans(),
    st.sampled_from((*DTYPES, *HALF)),
    st.data(),
)
@example("host", "gelu", 8, 1e-5, None, False, torch.float32, None)
@example("emulated", "silu", 3, 1e-5, None, True, torch.float32, None)
def test_gates(
    engine: str,
    function: str,
    time_steps: int,
    tolerance: float,
    high: float | None,
    as_train: bool,
    dtype: torch.dtype,
    data: st.DataObject | None,
) -> None:
    node = HGNode(function, time_steps, 0.5, high, tolerance)
    x = torch.tensor([[1e38, -1e38, 3.4e38]], dtype=dtype) if data is None else data.draw(currents(dtype))
    assert_same(run_on(engine, node, x, as_train), run_on("torch", node, x, as_train))


@needs_compiler
@pytest.mark.parametrize("engine", ["torch", *ENGINES])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("time_steps", [1, 3, 8, 16, 24])
@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_the_function_holds_far_outside(name: str, time_steps: int, dtype: torch.dtype, engine: str) -> None:
    """Lines go on as far as numbers do, flat tails stay flat, and what a neuron emits is a number unless its input is
    none."""
    node = HGNode(name, time_steps)
    largest = torch.finfo(dtype).max
    x = torch.tensor([1e20, 1e38, 3.4e38, largest, math.inf, math.nan], dtype=dtype)
    x = torch.cat([x, -x])
    for as_train in (True, False):
        emitted = run_on(engine, node, x[None], as_train).emitted
        total = emitted.sum(0) if as_train else emitted
        assert torch.equal(total.isnan(), x.isnan())
        if name in LINEAR:
            torch.testing.assert_close(total[:5], x[:5], rtol=1e-6, atol=0)
            assert torch.equal(total[6:11], torch.zeros_like(total[6:11]))


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", ["gelu", "silu", "tanh", "exp", "mt", "oat"])
def test_half_precision_is_the_single_one_rounded(name: str, dtype: torch.dtype) -> None:
    coder = name in ("mt", "oat")
    node = threshold_node(name, {"time_steps": 8, "levels": 15}) if coder else HGNode(name, 8)
    ends = torch.finfo(dtype)
    x = torch.tensor([0.0, ends.tiny, ends.max, ends.max / 2, 1.0, math.inf, math.nan], dtype=dtype)
    x = torch.cat([x, -x])
    for forward in (node.accumulated, node.train_of):
        torch.testing.assert_close(forward(x), forward(x.float()).to(dtype), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("levels", [1, 15])
@pytest.mark.parametrize("limit", [9, 16, 99, 2**31 - 1, 2**31, 2**32 + 1, 10**400])
def test_a_limit_that_never_binds_is_none(limit: int, levels: int) -> None:
    """2^31 would wrap to a network that is silent."""
    x = torch.linspace(-30, 30, 999)
    limited = OATNode(2.0, 6.0, 9, levels, max_spikes=limit)
    assert limited.code.max_spikes is None
    assert torch.equal(limited(x), OATNode(2.0, 6.0, 9, levels)(x))
