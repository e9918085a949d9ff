"""Nodes of rate codes as parts of SpikingJelly: modes, states, shapes, precision, gradients, monitors, bad input."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import functional, monitor
from torch import Tensor, nn

from las_sj.neurons.rate_coded import (
    CalibratedIFNode,
    OffsetCalibratedIFNode,
    QCFSIFNode,
    RateCodedNode,
    ResidualPotentialIFNode,
)

NODES: dict[str, Callable[[], RateCodedNode]] = {
    "qcfs": lambda: QCFSIFNode(1.0, step_mode="m"),
    "fas": lambda: CalibratedIFNode(torch.tensor([1.0, 0.7, 1.3]), torch.tensor([0.5, 0.2, 0.9]), step_mode="m"),
    "srp": lambda: ResidualPotentialIFNode(1.0, 2, step_mode="m"),
    "cos": lambda: OffsetCalibratedIFNode(1.0, 2),
}
STEPWISE = ("qcfs", "fas", "srp")


def currents(steps: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(steps, 2, 5, 3, generator=torch.Generator().manual_seed(seed)) + 0.4


@pytest.mark.parametrize("name", STEPWISE)
def test_step_by_step_is_all_at_once(name: str) -> None:
    node, x_seq = NODES[name](), currents()
    at_once = node(x_seq)
    v = node.v
    functional.reset_net(node)
    assert node.v is None
    node.step_mode = "s"
    assert torch.equal(torch.stack([node(x) for x in x_seq]), at_once)
    assert torch.equal(node.v, v)


@pytest.mark.parametrize("name", STEPWISE)
def test_the_state_is_kept_until_it_is_reset(name: str) -> None:
    node, x_seq = NODES[name](), currents()
    whole = node(x_seq)
    node.reset()
    assert torch.equal(torch.cat([node(x_seq[:1]), node(x_seq[1:])]), whole)
    assert not torch.equal(node(x_seq), whole)
    node.reset()
    assert torch.equal(node(x_seq), whole)


def test_cos_begins_at_rest_and_takes_all_steps_at_once() -> None:
    node, x_seq = NODES["cos"](), currents()
    assert torch.equal(node(x_seq), node(x_seq))
    with pytest.raises(ValueError, match="step_mode"):
        node.step_mode = "s"
    with pytest.raises(ValueError, match="look 2 steps ahead, got 1"):
        node(x_seq[:1])


@pytest.mark.parametrize("name", list(NODES))
def test_spikes_are_binary_and_seen_by_monitors(name: str) -> None:
    net = nn.Sequential(NODES[name]())
    watcher = monitor.OutputMonitor(net, RateCodedNode)
    net[0].store_v_seq = True
    spikes = net(currents())
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(watcher.records[0], spikes)
    assert net[0].v_seq.shape == spikes.shape
    assert torch.equal(net[0].v_seq[-1], net[0].v)
    watcher.remove_hooks()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", list(NODES))
def test_half_precision_is_for_values_alone(name: str, dtype: torch.dtype) -> None:
    node, x_seq = NODES[name](), currents(12).to(dtype)
    expected = node(x_seq.float())
    node.reset()
    spikes = node.to(dtype)(x_seq)
    assert node.theta.dtype == torch.float32
    assert node.v.dtype == torch.float32
    assert spikes.dtype == dtype
    assert torch.equal(spikes.float(), expected)


@pytest.mark.parametrize("name", list(NODES))
def test_saved_and_loaded_nodes_are_the_same(name: str) -> None:
    node, other = NODES[name](), NODES[name]()
    node.theta.data *= 0.9
    other.load_state_dict(node.state_dict())
    assert torch.equal(other(currents()), node(currents()))
    assert not any(key.startswith("v") for key in node.state_dict())


def test_thresholds_per_position() -> None:
    theta, beta = torch.rand(8, 3) + 0.5, torch.rand(8, 3)
    node, x_seq = CalibratedIFNode(theta, beta, step_mode="m"), currents()
    spikes = node(x_seq, first_position=2)
    for position in range(5):
        one = CalibratedIFNode(theta[2 + position], beta[2 + position], step_mode="m")
        assert torch.equal(one(x_seq[:, :, position]), spikes[:, :, position])
    assert torch.equal(node.scale_at(x_seq[0], 2), theta[2:7])
    node.reset()
    with pytest.raises(ValueError, match="thresholds for 8 positions"):
        node(x_seq, 4)


def test_gradients_are_those_of_back_propagation_through_time() -> None:
    """By hand, with the triangle as the derivative of the step function."""
    theta, beta = torch.tensor([0.8, 1.1, 1.4]), torch.tensor([0.5, 0.3, 0.7])
    node = CalibratedIFNode(theta.double(), beta.double(), step_mode="m")
    x_seq = currents(8).double()
    weights = torch.rand(x_seq.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (weights * node(x_seq) * node.scale).sum().backward()

    by_theta, by_beta = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    levels = theta.double()
    v = (beta.double() * levels).expand(x_seq.shape[1:])
    dv_theta, dv_beta = beta.double().expand(v.shape), levels.expand(v.shape)
    for x, weight in zip(x_seq, weights, strict=True):
        u = v + x - levels
        fired, slope = (u >= 0).double(), (1 - u.abs()).clamp(min=0)
        ds_theta, ds_beta = slope * (dv_theta - 1), slope * dv_beta
        by_theta += (weight * (fired + levels * ds_theta)).sum((0, 1))
        by_beta += (weight * levels * ds_beta).sum((0, 1))
        v = v + x - levels * fired
        dv_theta, dv_beta = dv_theta - fired - levels * ds_theta, dv_beta - levels * ds_beta
    torch.testing.assert_close(node.theta.grad, by_theta, rtol=1e-10, atol=0)
    assert isinstance(node.beta, nn.Parameter)
    torch.testing.assert_close(node.beta.grad, by_beta, rtol=1e-10, atol=0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=6), st.sampled_from(sorted(NODES)))
def test_any_currents(numbers: list[float], name: str) -> None:
    """Without an upper end for what is integrated; NaN never fires."""
    node = NODES[name]()
    x = torch.tensor(numbers).repeat_interleave(3).view(1, -1, 3)
    spikes = node(x.expand(4, *x.shape))
    assert bool(((spikes == 0) | (spikes == 1)).all())
    assert bool((spikes[:, x.isnan()] == 0).all())
    assert bool(node.v[x.isnan()].isnan().all())


def test_an_empty_batch() -> None:
    for make in NODES.values():
        assert make()(torch.zeros(4, 0, 3)).shape == (4, 0, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QCFSIFNode(0.0), "theta must be finite and positive"),
        (lambda: QCFSIFNode(1.0, float("nan")), "beta must be finite"),
        (lambda: ResidualPotentialIFNode(1.0, 4, epsilon=float("nan")), r"epsilon must lie in \[0, 1\)"),
        (lambda: CalibratedIFNode(1.0, float("nan")), "beta must be finite"),
        (lambda: CalibratedIFNode(torch.ones(3), torch.ones(4)), r"beta has the shape \[4\], theta \[3\]"),
        (lambda: ResidualPotentialIFNode(1.0, -1), "tau must be an integer >= 0"),
        (lambda: OffsetCalibratedIFNode(1.0, 0), "rho must be an integer >= 1"),
        (lambda: OffsetCalibratedIFNode(1.0, 4, iterations=-1), "iterations must be an integer >= 0"),
        (lambda: OffsetCalibratedIFNode(1.0, 4, epsilon=0.0), r"epsilon must lie in \(0, 1\)"),
    ],
)
def test_bad_settings(make: Callable[[], RateCodedNode], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_currents() -> None:
    node = NODES["qcfs"]()
    with pytest.raises(ValueError, match=r"takes currents \[T, B, ...\] with T >= 1"):
        node(torch.zeros(0, 2, 3))
    node(torch.zeros(2, 2, 3))
    with pytest.raises(ValueError, match="reset them first"):
        node(torch.zeros(2, 4, 3))
