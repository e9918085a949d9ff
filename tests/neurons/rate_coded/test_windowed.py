"""The neuron that emits a quantised activation after it has integrated a whole window."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import functional
from torch import Tensor

from las_sj.neurons.rate_coded import QCFSQuantizer, QCFSWindowNode
from las_sj.neurons.rate_coded.quantizer import continuous_quantisers

THETA = 1.24
EXTREMES = [0.0, -0.0, 1e30, -1e30, math.inf, -math.inf, 1e-40]


def potentials(levels: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Spread over more than the range, with all ties between two levels, and the extremes."""
    ties = (torch.arange(-2, levels + 3, dtype=dtype) + 0.5) * THETA / levels
    return torch.cat([torch.linspace(-THETA, 2 * THETA, 501, dtype=dtype), ties, torch.tensor(EXTREMES, dtype=dtype)])


def node_and_quantizer(levels: int, time_steps: int, dtype: torch.dtype, clip_first: bool = True) -> tuple:
    theta = torch.tensor(THETA, dtype=dtype)
    quantizer = QCFSQuantizer(theta, min(levels, time_steps), clip_first)
    return QCFSWindowNode(theta, levels, time_steps, clip_first), quantizer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("clip_first", [True, False])
@pytest.mark.parametrize(("levels", "time_steps"), [(8, 8), (8, 16), (8, 4), (1, 6), (5, 1), (127, 63)])
@torch.no_grad()
def test_value_is_that_of_the_quantiser(levels: int, time_steps: int, clip_first: bool, dtype: torch.dtype) -> None:
    """Of L levels where there are as many steps, otherwise of T."""
    node, quantizer = node_and_quantizer(levels, time_steps, dtype, clip_first)
    v = potentials(min(levels, time_steps), dtype)
    assert torch.equal(node(v), quantizer(v))
    assert node.exact(v).equal(quantizer(v))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision_is_quantised_in_single(dtype: torch.dtype) -> None:
    node, quantizer = node_and_quantizer(8, 8, torch.float32)
    node, v = node.to(dtype), potentials(8, torch.float32).to(dtype)
    assert node.theta.dtype == torch.float32
    assert torch.equal(node(v), quantizer(v))


@pytest.mark.parametrize(("levels", "time_steps"), [(8, 8), (8, 16), (8, 4), (3, 7)])
@torch.no_grad()
def test_spikes_are_binary_and_carry_the_same(levels: int, time_steps: int) -> None:
    node, quantizer = node_and_quantizer(levels, time_steps, torch.float64)
    v = potentials(levels)
    currents = torch.stack([0.25 * v, -v, 1.75 * v]).nan_to_num(posinf=1e30, neginf=-1e30)
    functional.set_step_mode(node, "m")
    train = node(currents)
    spikes = node.spikes_of(currents.sum(0))
    assert train.shape == (time_steps, *v.shape)
    assert set(spikes.unique().tolist()) == {0, 1}
    unit = THETA / min(levels, time_steps)
    torch.testing.assert_close(train, spikes.double() * unit, rtol=1e-14, atol=0)
    torch.testing.assert_close(train.sum(0), quantizer(currents.sum(0)), rtol=1e-14, atol=0)
    assert int(spikes.sum(0).max()) == node.most_spikes


@torch.no_grad()
def test_spikes_are_spread_as_a_constant_current_would_spread_them() -> None:
    """An integrate-and-fire neuron that begins at half its threshold, in units of it."""
    node = QCFSWindowNode(1.0, 5, 12)
    for count in range(6):
        spikes = node.spikes_of(torch.tensor([count / 5], dtype=torch.float64))[:, 0]
        potential, expected = 6 * 12 // 12, []  # in units of a twelfth: half of twelve
        for _ in range(12):
            potential += count
            expected.append(int(potential >= 12))
            potential -= 12 * expected[-1]
        assert spikes.tolist() == expected


@given(
    st.integers(1, 32),
    st.integers(1, 24),
    st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=20),
    st.floats(0.015625, 64, width=32),
)
@settings(deadline=None, max_examples=100)
@torch.no_grad()
def test_any_window(levels: int, time_steps: int, values: list[float], theta: float) -> None:
    node = QCFSWindowNode(theta, levels, time_steps)
    v = torch.tensor(values) * theta
    expected = QCFSQuantizer(theta, min(levels, time_steps))(v)
    node.count_spikes = True
    assert torch.equal(node(v), expected)
    spikes = node.spikes_of(v)
    assert torch.equal(spikes.sum(0), node.spike_count.long())
    assert set(spikes.unique().tolist()) <= {0, 1}
    node.step_mode = "m"
    torch.testing.assert_close(node(v.unsqueeze(0)).sum(0), expected, rtol=1e-6, atol=0)


@torch.no_grad()
def test_nan_is_not_lost() -> None:
    node, v = QCFSWindowNode(1.0, 4, 6), torch.tensor([math.nan, 0.5])
    node.count_spikes = True
    assert node(v).isnan().tolist() == [True, False]
    assert node.spike_count.tolist() == [0, 2]
    assert node.spikes_of(v)[:, 0].tolist() == [0] * 6
    node.step_mode = "m"
    assert node(v.unsqueeze(0)).sum(0).isnan().tolist() == [True, False]


@torch.no_grad()
def test_each_channel_may_have_a_threshold_of_its_own() -> None:
    theta = torch.tensor([0.5, 1.0, 3.0])
    node, v = QCFSWindowNode(theta, 8, 8), torch.linspace(-1, 4, 60).view(4, 5, 3)
    assert torch.equal(node(v), QCFSQuantizer(theta, 8)(v))
    node.step_mode = "m"
    train = node(v.unsqueeze(0))
    scale, bias = node.spike_scale(v)
    torch.testing.assert_close(train, node.spikes_of(v) * scale, rtol=1e-6, atol=0)
    assert not bias.any()


@pytest.mark.parametrize("as_train", [False, True])
@pytest.mark.parametrize("clip_first", [True, False])
def test_gradients_are_those_of_the_quantiser(clip_first: bool, as_train: bool) -> None:
    node, quantizer = node_and_quantizer(8, 10, torch.float64, clip_first)
    v = potentials(8)[:-7]
    weight = torch.linspace(0.5, 1.5, len(v), dtype=torch.float64)
    gradients = []
    for emit in (quantizer, node):
        x = v.clone().requires_grad_()
        if emit is node and as_train:
            node.step_mode = "m"
            y = emit(x.unsqueeze(0)).sum(0)
        else:
            y = emit(x)
        (y * weight).sum().backward()
        gradients.append((x.grad, emit.theta.grad))
    (of_x, of_theta), (found_x, found_theta) = gradients
    torch.testing.assert_close(found_x, of_x, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(found_theta, of_theta, rtol=1e-12, atol=0)
    assert float(of_theta.abs()) > 0


@torch.no_grad()
def test_bypassed_it_passes_the_quantised_value_or_the_clipped_one() -> None:
    node, v = QCFSWindowNode(1.0, 4, 8), torch.tensor([-0.3, 0.3, 0.6, 1.4])
    node.bypass = True
    assert node(v).tolist() == [0.0, 0.25, 0.5, 1.0]
    with continuous_quantisers():
        assert torch.equal(node(v), v.clamp(0, 1))
        assert torch.equal(QCFSQuantizer(1.0, 4)(v), v.clamp(0, 1))
        node.step_mode = "m"
        torch.testing.assert_close(node(v.expand(3, -1) / 3).sum(0), v.clamp(0, 1))
    assert QCFSQuantizer(1.0, 4)(v).tolist() == [0.0, 0.25, 0.5, 1.0]


def test_what_is_not_positive_is_no_threshold() -> None:
    node = QCFSWindowNode(torch.ones(2), 4, 4)
    assert not list(node.faults())
    node.theta.data[0] = -1.0
    assert not list(node.faults())  # training may bring one there: it is taken for the least
    node.theta.data[1] = 0.0
    assert [name for name, _ in node.faults()] == ["theta"]
    node.theta.data[1] = math.nan
    assert "NaN" in dict(node.faults())["theta"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 4, 4), "theta must be finite and positive"),
        ((1.0, 0, 4), "levels must be"),
        ((1.0, True, 4), "levels must be"),
        ((1.0, 4, 0), "time_steps must be"),
        ((1.0, 64, 64), "levels or time_steps must be below 64"),
        ((torch.ones(2, 3), 4, 4), "one per channel"),
    ],
)
def test_settings_out_of_range_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QCFSWindowNode(*arguments)
