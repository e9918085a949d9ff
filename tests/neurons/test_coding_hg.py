"""Neurons that compute a function and code it: what sub-neurons emit, errors, calibration, gradients, step modes."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from las_sj.neurons import CodingHGNode, GridFunction, HGNode, MultiThresholdCode, OATNode
from las_sj.neurons.fitting import Lines

RANGES = {"exp": (-21.0, 0.0), "gelu": (-8.0, 9.0), "silu": (-20.0, 20.0), "tanh": (-9.0, 9.0), "relu": (-1.0, 2.0)}
POWERS = {"reciprocal": (0.01, 900.0), "rsqrt": (0.01, 900.0), "square": (-30.0, 30.0)}
CODES = {
    "nearest": MultiThresholdCode(16, 15),
    "one level": MultiThresholdCode(12, 1),
    "floor": MultiThresholdCode(16, 3, "floor"),
    "two spikes": MultiThresholdCode(10, 7, "nearest", 2),
}


def node_for(function: str, code: MultiThresholdCode = CODES["nearest"], **options: object) -> CodingHGNode:
    """A node with thresholds for the function's values on its range."""
    node = CodingHGNode(function, code, **options)  # type: ignore[arg-type]
    largest = float(node.exact(inputs(function)).abs().amax())
    node.theta_outlier.data.fill_(1.3 * largest)
    node.theta_normal.data.fill_(0.2 * largest)
    return node


def inputs(function: str, count: int = 400) -> Tensor:
    """Random numbers of the range [count], fp64; of powers, as many in each octave."""
    generator = torch.Generator().manual_seed(1)
    share = torch.rand(count, generator=generator, dtype=torch.float64)
    if function not in POWERS:
        low, high = RANGES[function]
        return low + (high - low) * share
    low, high = POWERS[function]
    x = torch.exp(math.log(abs(low)) + (math.log(high) - math.log(abs(low))) * share)
    return torch.where(torch.rand(count, generator=generator) < 0.5, -x, x) if low < 0 else x


def lines_at(node: CodingHGNode, x: float) -> tuple[float, float]:
    """Slope c and zero a' of the line that is open at x: y = c·(x − a'); a constant's c is 0, and a' its value."""
    function, lines = node.function, node.gates.fit.lines
    scale, gain = 1.0, 1.0
    if isinstance(function, GridFunction):
        low, high = function.core
        for tail, outside in ((function.below, x < low), (function.above, x > high)):
            if outside and tail is not None:
                return (tail.slope, -tail.intercept / tail.slope) if tail.slope else (0.0, tail.intercept)
        x = min(max(x, low), high)
    else:
        mirrored = function.even and x < 0
        period = math.floor(math.log2(abs(x)) / function.period)
        scale, gain = 2.0 ** (function.period * period) * (-1 if mirrored else 1), 2.0 ** (function.gain * period)
    slope, start_value, start = _line_of_fit(lines, x / scale, node.time_steps)
    slope, start_value, start = slope * gain / scale, start_value * gain, start * scale
    return slope, start - start_value / slope


def _line_of_fit(lines: Lines, x: float, time_steps: int) -> tuple[float, float, float]:
    """Slope, and a point (value, place) of the line of the sub-range that x with its shift lies in."""
    first = int(torch.searchsorted(lines.start + (lines.width - lines.shift), x))  # ends, each its sub-range's own
    m = min(first, len(lines.start) - 1)
    slope = float(lines.amplitude[m] / lines.width[m])
    value = float(lines.bias[m] - lines.amplitude[m] * 2.0 ** -(time_steps + 1)) + slope * float(lines.shift[m])
    return slope, value, float(lines.start[m])


def emitted(node: CodingHGNode, x: float) -> Iterator[float]:
    """What a few-spikes sub-neuron emits at each step: its membrane is x − a', and nothing is multiplied by c."""
    c, zero = lines_at(node, x)
    code = node.code
    normal, outlier = float(node.theta_normal), float(node.theta_outlier)
    u, sign = (x - zero, math.copysign(1.0, c)) if c else (zero, 1.0)
    c = abs(c) or 1.0  # a constant's code
    alpha = normal if abs(u) <= normal / c else outlier
    fired = 0
    for t in range(1, code.time_steps + 1):
        theta = alpha * 2.0**-t
        levels = [theta * (1 + j / code.levels) for j in range(code.levels + (code.nearest and t == 1))]
        if code.nearest:
            least = theta / 2 if t == code.time_steps else theta * (1 - 1 / (4 * code.levels))
            chosen = min(levels, key=lambda level: abs(abs(u) - level / c)) if abs(u) >= least / c else None
        else:
            chosen = max((level for level in levels if abs(u) >= level / c), default=None)
        if chosen is None or fired == code.max_spikes:
            yield 0.0
            continue
        fired += 1
        spike = math.copysign(chosen, u)
        u -= spike / c
        yield spike * sign


@pytest.mark.parametrize("code", list(CODES))
@pytest.mark.parametrize("function", [*RANGES, *POWERS])
def test_sub_neurons_are_few_spikes_neurons_with_thresholds_of_their_own(function: str, code: str) -> None:
    node, x = node_for(function, CODES[code], step_mode="m"), inputs(function, 80)
    train = node(x.unsqueeze(0))
    expected = torch.tensor([list(emitted(node, float(value))) for value in x], dtype=torch.float64).t()
    same = (train - expected).abs().amax(0) <= 1e-9 * node.theta_outlier
    assert same.double().mean() > 0.97  # tables are in single precision, in which a decision may fall otherwise


@pytest.mark.parametrize("function", [*RANGES, *POWERS])
def test_errors_are_those_of_line_and_code(function: str) -> None:
    node, x = node_for(function), inputs(function)
    exact = node.exact(x)
    line = node.gates.bound if function not in POWERS else node.relative_bound * exact.abs()
    code = 0.5 * float(node.theta_outlier) * 2.0**-16
    assert bool(((node(x) - exact).abs() <= line + code).all())


@pytest.mark.parametrize("function", ["exp", "gelu", "rsqrt"])
def test_spikes_are_those_of_an_oat_neuron_that_is_given_the_line(function: str) -> None:
    node, x = node_for(function, step_mode="m"), inputs(function).float()
    oat = OATNode(float(node.theta_normal), float(node.theta_outlier), 16, 15, step_mode="m")
    node.count_spikes = oat.count_spikes = True
    assert torch.equal(node(x.unsqueeze(0)), oat(node.line(x).unsqueeze(0)))
    assert torch.equal(node.spike_count, oat.spike_count)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("function", [*RANGES, *POWERS])
def test_step_modes_agree(function: str, backend: str) -> None:
    node, x = node_for(function, backend=backend), inputs(function)
    total = node(x)
    node.step_mode = "m"
    currents = torch.stack([x * 1.5, -x * 0.75, x * 0.25])
    assert torch.allclose(node(currents).sum(0), total, rtol=0, atol=1e-12 * float(node.theta_outlier))


def test_fewer_sub_neurons_beyond_the_core() -> None:
    """Each tail is one line, however far it goes; HG neurons need several, since they code a sub-range in T digits."""
    hg, coding = HGNode("silu", 16), CodingHGNode("silu", CODES["nearest"])
    for node in (hg, coding):
        node.set_range(-16.0, 5000.0)
    assert coding.sub_neurons == len(hg.gates.fit.lines.start) + 2  # type: ignore[union-attr]
    assert hg.sub_neurons > coding.sub_neurons


@pytest.mark.parametrize("function", ["exp", "gelu", "rsqrt"])
def test_a_limit_of_lines_holds_for_the_calibrated_range(function: str) -> None:
    node, x = node_for(function, lines=64), inputs(function)
    seen = node.statistics()
    seen.add(x)
    node.calibrate(seen, 1.0)
    assert node.stored_lines <= 64
    assert node.stored_lines < CodingHGNode(function, CODES["nearest"]).stored_lines
    assert not list(node.faults())
    line = node.gates.bound if function == "gelu" else node.relative_bound * node.exact(x).abs()
    assert bool(((node(x) - node.exact(x)).abs() <= line + 0.5 * float(node.theta_outlier) * 2.0**-16).all())


@pytest.mark.parametrize("outlier_aware", [True, False])
def test_calibration_takes_thresholds_from_values_and_the_range_from_inputs(outlier_aware: bool) -> None:
    node = CodingHGNode("reciprocal", CODES["nearest"], outlier_aware=outlier_aware)
    seen = node.statistics()
    seen.add(torch.tensor([[0.5, 4.0], [64.0, 1.0]]))
    seen.add(torch.empty(0))
    node.calibrate(seen, 1.5)
    assert float(node.theta_outlier) == 3.0  # 1.5 times 1/0.5
    assert (float(node.theta_normal) < 3.0) == outlier_aware
    expected = HGNode("reciprocal", 16)
    expected.cover(0.5, 64.0, 1.5)
    assert (node.low, node.high) == (expected.low, expected.high)
    node.calibrate(seen, 1.5, upper_bound=1.0)
    assert float(node.theta_outlier) == 1.0


def test_infinite_values_of_the_function_are_refused_in_calibration() -> None:
    with pytest.raises(ValueError, match="infinite or NaN"):
        CodingHGNode("reciprocal", CODES["nearest"]).statistics().add(torch.zeros(1))


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_gradient_is_the_slope_of_the_open_sub_neuron(step_mode: str) -> None:
    node = node_for("silu", step_mode=step_mode)
    x = inputs("silu", 50).requires_grad_()
    node(x if step_mode == "s" else x.unsqueeze(0)).sum().backward()
    y = x.detach().requires_grad_()
    torch.nn.functional.silu(y).sum().backward()
    scale = 1 if step_mode == "s" else 16  # steps share the gradient of their sum
    assert x.grad is not None
    assert y.grad is not None
    within = node.line(x.detach()).abs() <= node.alpha(node.line(x.detach()))
    assert within.all()
    assert torch.allclose(x.grad * (scale if step_mode == "s" else 1), y.grad, atol=0.02)


def test_extremes() -> None:
    node = node_for("gelu")
    found = node(torch.tensor([math.nan, -math.inf, math.inf, 0.0]))
    assert found[0].isnan()
    assert found[1] == 0
    assert found[2] > node.theta_outlier  # saturated
    assert abs(float(found[3])) < 1e-3
    assert node.out_of_range == 1  # infinity: NaN and the flat tail are no range's business
    held = CodingHGNode("sin", CODES["nearest"])
    held(torch.tensor([0.0, 40.0]))
    assert held.out_of_range == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_that_of_values(dtype: torch.dtype) -> None:
    node, x = node_for("exp"), inputs("exp").to(dtype)
    assert torch.equal(node(x), node(x.float()).to(dtype))
    node.step_mode = "m"
    assert torch.equal(node(x.unsqueeze(0)), node(x.float().unsqueeze(0)).to(dtype))


def test_bypassed_it_is_the_function() -> None:
    node, x = node_for("tanh"), inputs("tanh")
    node.bypass = True
    assert torch.equal(node(x), torch.tanh(x))
    node.step_mode = "m"
    assert torch.allclose(node(x.unsqueeze(0).repeat(3, 1) / 3).sum(0), torch.tanh(x))


def test_broken_tables_and_thresholds_are_found() -> None:
    node = node_for("exp")
    assert not list(node.faults())
    node.bias[3] += 0.1
    node.theta_normal.data.fill_(-1.0)
    assert [name for name, _ in node.faults()] == ["theta_normal", "bias"]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="function must be one of"):
        CodingHGNode("no", CODES["nearest"])
    with pytest.raises(ValueError, match="low must be finite"):
        CodingHGNode("exp", CODES["nearest"]).set_range(-math.inf, 0.0)
    with pytest.raises(ValueError, match="at least one time step"):
        node_for("exp", step_mode="m")(torch.empty(0, 3))
