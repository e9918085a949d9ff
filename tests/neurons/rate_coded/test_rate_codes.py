"""What rate codes are worth: QCFS under constant and other currents, and what SRP and COS mend (properties 4 to 18)."""

import math

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor

from las_sj.neurons.rate_coded import (
    CalibratedIFNode,
    OffsetCalibratedIFNode,
    QCFSIFNode,
    QCFSQuantizer,
    RateCodedNode,
    ResidualPotentialIFNode,
)

THETAS = (2.0, 1.24, 2.5, 0.37)


def drive(steps: int, count: int = 20000, mean: float = 0.5, deviation: float = 3.0, seed: int = 0) -> Tensor:
    """Currents [T, 1, N] that differ from step to step, in fp64."""
    generator = torch.Generator().manual_seed(seed)
    bias = mean + torch.randn(1, 1, count, generator=generator, dtype=torch.float64)
    return bias + deviation * torch.randn(steps, 1, count, generator=generator, dtype=torch.float64)


def away_from_ties(x_seq: Tensor, theta: float, steps: int, margin: float = 2e-3) -> Tensor:
    """Those whose sum over the first steps is not near a line between two counts."""
    u = x_seq[:steps].sum(0) / theta + 0.5
    return x_seq[:, (u - u.round()).abs() > margin].unsqueeze(1)


def counts_of(z: Tensor, theta: float, steps: int) -> Tensor:
    """How often a neuron should fire under a mean current z."""
    return (steps * z / theta + 0.5).floor().clamp(0, steps)


def run(node: RateCodedNode, x_seq: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes, and the membrane potential after them."""
    node.step_mode = "m"
    spikes = node(x_seq)
    return spikes, node.v


@pytest.mark.parametrize("theta", THETAS)
def test_constant_currents_are_exact_at_every_step(theta: float) -> None:
    node = QCFSIFNode(theta)
    scale = float(node.theta)
    x_seq = away_from_ties(torch.randn(1, 1, 4000, dtype=torch.float64).mul(2 * theta).expand(16, 1, -1), scale, 16)
    spikes, _ = run(node, x_seq)
    z = x_seq[0]
    for t in range(1, 17):
        apart = ((t * z / scale + 0.5) - (t * z / scale + 0.5).round()).abs() > 1e-4
        assert torch.equal(spikes[:t].sum(0)[apart], counts_of(z, scale, t)[apart])


@pytest.mark.parametrize("levels", [2, 4, 8, 16])
def test_as_many_steps_as_levels_give_the_quantised_value(levels: int) -> None:
    """Ties too: halves round up."""
    x = torch.arange(-levels, 3 * levels, dtype=torch.float64) / (2 * levels)
    spikes, _ = run(QCFSIFNode(1.0), x.expand(levels, 1, -1))
    assert torch.equal(spikes.mean(0)[0], QCFSQuantizer(1.0, levels)(x))


@pytest.mark.parametrize(("levels", "steps"), [(8, 4), (4, 8), (16, 4), (8, 16), (8, 3)])
def test_other_steps_err_by_half_a_level_of_each_and_not_on_average(levels: int, steps: int) -> None:
    theta, count = 1.24, levels * steps * 1000
    node = QCFSIFNode(theta)
    scale = float(node.theta)
    z = (torch.arange(count, dtype=torch.float64) + 0.5) / count * scale
    error = scale * run(node, z.expand(steps, 1, -1))[0].mean(0)[0] - QCFSQuantizer(theta, levels)(z).detach()
    assert float(error.abs().max()) <= scale * (0.5 / steps + 0.5 / levels) * (1 + 1e-9)
    assert abs(float(error.mean())) < 1e-12


@pytest.mark.parametrize("theta", THETAS)
@pytest.mark.parametrize("steps", [1, 4, 16])
def test_what_is_left_on_the_membrane_is_the_error(theta: float, steps: int) -> None:
    node, x_seq = QCFSIFNode(theta), drive(steps)
    scale = float(node.theta)
    spikes, v = run(node, x_seq)
    phi = scale * spikes.mean(0)
    torch.testing.assert_close(phi, x_seq.mean(0) + (scale / 2 - v) / steps, rtol=1e-12, atol=1e-12)
    assert bool(((phi >= 0) & (phi <= scale)).all())


@pytest.mark.parametrize("theta", THETAS)
def test_the_membrane_tells_how_many_spikes_are_missing(theta: float) -> None:
    node, scale, steps = QCFSIFNode(theta), float(torch.tensor(theta)), 8
    x_seq = away_from_ties(drive(steps), scale, steps)
    spikes, v = run(node, x_seq)
    expected = counts_of(x_seq.mean(0), scale, steps)
    assert torch.equal((spikes.sum(0) + (v / scale).floor()).clamp(0, steps), expected)
    is_exact = (v >= 0) & (v < scale)
    assert bool(is_exact.any())
    assert torch.equal(spikes.sum(0)[is_exact], expected[is_exact])


def test_who_begins_higher_fires_as_often_or_a_little_more() -> None:
    x_seq, theta = drive(8), 1.0
    low = run(QCFSIFNode(theta), x_seq)[0].sum(0)
    for shift in (0.3, 1.0, 2.7):
        more = run(QCFSIFNode(theta, beta=0.5 + shift), x_seq)[0].sum(0) - low
        assert bool(((more >= 0) & (more <= math.ceil(shift))).all())


@pytest.mark.parametrize("factor", [0.25, 8.0])
def test_scale_does_not_matter(factor: float) -> None:
    x_seq = drive(8)
    node = QCFSIFNode(1.24)
    assert torch.equal(run(node, x_seq)[0], run(QCFSIFNode(node.theta * factor), x_seq * factor)[0])


def test_the_order_of_steps_shows_in_the_count_alone() -> None:
    x_seq = away_from_ties(drive(8), 1.0, 8)
    (one, v), (other, w) = run(QCFSIFNode(1.0), x_seq), run(QCFSIFNode(1.0), x_seq.flip(0))
    assert torch.equal(one.sum(0) + v.floor(), other.sum(0) + w.floor())
    assert not torch.equal(one.sum(0), other.sum(0))


@pytest.mark.parametrize("theta", THETAS)
def test_spikes_are_those_of_spikingjelly(theta: float) -> None:
    x_seq = drive(16).float()
    spikes, v = run(QCFSIFNode(theta), x_seq)
    theirs = neuron.HalfThresholdIFNode(v_threshold=theta, step_mode="m")
    assert torch.equal(theirs(x_seq), spikes)
    assert torch.equal(theirs.v, v)


def test_fas_with_its_first_settings_is_qcfs() -> None:
    x_seq = drive(8).float()
    assert torch.equal(run(CalibratedIFNode(1.24), x_seq)[0], run(QCFSIFNode(1.24), x_seq)[0])
    per_channel = CalibratedIFNode(torch.full((20000,), 1.24), torch.full((20000,), 0.5))
    assert torch.equal(run(per_channel, x_seq)[0], run(QCFSIFNode(1.24), x_seq)[0])


# SRP


@pytest.mark.parametrize("tau", [1, 4, 8])
def test_srp_changes_nothing_under_constant_currents(tau: int) -> None:
    x_seq = away_from_ties(drive(1, deviation=0.0).expand(tau + 8, 1, -1), 1.0, tau)
    spikes, _ = run(ResidualPotentialIFNode(1.0, tau), x_seq)
    assert torch.equal(spikes[tau:], run(QCFSIFNode(1.0), x_seq[tau:])[0])
    assert torch.equal(spikes[:tau], run(QCFSIFNode(1.0), x_seq[:tau])[0])


@pytest.mark.parametrize("tau", [2, 4, 8, 16])
def test_who_should_not_have_fired_at_all(tau: int) -> None:
    x_seq = away_from_ties(drive(tau), 1.0, tau)
    spikes, v = run(QCFSIFNode(1.0), x_seq)
    fired = spikes.sum(0)
    too_much = (counts_of(x_seq.mean(0), 1.0, tau) == 0) & (fired > 0)
    assert bool(too_much.any())
    assert torch.equal(too_much, (fired > 0) & (v < -(fired - 1)))
    assert torch.equal(too_much[fired == 1], (v < 0)[fired == 1])


def test_srp_silences_and_adds_nothing() -> None:
    x_seq, tau = drive(12), 4
    node = ResidualPotentialIFNode(1.0, tau)
    spikes, _ = run(node, x_seq)
    alone = run(QCFSIFNode(1.0), x_seq[tau:])[0]
    assert bool((spikes[tau:] <= alone).all())
    assert torch.equal(spikes[tau:], alone * node.mask)
    assert 0 < float(node.mask.double().mean()) < 1
    assert torch.equal(run(ResidualPotentialIFNode(1.0, 0), x_seq)[0], run(QCFSIFNode(1.0), x_seq)[0])


def test_srp_silences_who_is_left_with_little() -> None:
    """At most ε·θ, also where that is above zero; all of them have fired once."""
    left = torch.tensor([0.0, 0.0625, 0.125, 0.25], dtype=torch.float64)
    x_seq = torch.stack([0.5 + left, *[torch.ones(4, dtype=torch.float64)] * 3]).unsqueeze(1)
    spikes, _ = run(ResidualPotentialIFNode(1.0, 1, epsilon=0.125), x_seq)
    assert spikes[0, 0].tolist() == [1, 1, 1, 1]
    assert spikes[1:, 0].sum(0).tolist() == [0, 0, 0, 3]


# COS


@pytest.mark.parametrize("epsilon", [1e-3, 0.5, 0.9])
@pytest.mark.parametrize("rho", [1, 4, 8])
def test_a_shift_of_cos_is_one_spike(rho: int, epsilon: float) -> None:
    x_seq = away_from_ties(drive(rho), 1.0, rho)
    before = run(QCFSIFNode(1.0), x_seq)[0].sum(0)
    after = run(OffsetCalibratedIFNode(1.0, rho, epsilon=epsilon), x_seq)[0].sum(0)
    expected = counts_of(x_seq.mean(0), 1.0, rho)
    assert torch.equal(after - before, (expected - before).sign())


@pytest.mark.parametrize("rho", [2, 4, 8])
def test_as_many_shifts_as_steps_are_exact(rho: int) -> None:
    theta = 1.24
    scale = float(torch.tensor(theta))
    x_seq = away_from_ties(drive(rho), scale, rho)
    expected = counts_of(x_seq.mean(0), scale, rho)
    missing = (expected - run(QCFSIFNode(theta), x_seq)[0].sum(0)).abs()
    for iterations in range(rho + 1):
        spikes, _ = run(OffsetCalibratedIFNode(theta, rho, iterations), x_seq)
        assert torch.equal((expected - spikes.sum(0)).abs(), (missing - iterations).clamp(min=0))
    torch.testing.assert_close(scale * spikes.mean(0), QCFSQuantizer(theta, rho)(x_seq.mean(0)), rtol=1e-12, atol=0)


def test_cos_runs_on_after_the_steps_it_has_seen() -> None:
    x_seq = drive(12)
    spikes, v = run(OffsetCalibratedIFNode(1.0, 4), x_seq)
    assert spikes.shape == x_seq.shape
    shifted = (spikes.sum(0) + v - x_seq.sum(0) - 0.5).abs()
    assert bool(((shifted < 1e-9) | (shifted >= 1 - 1e-9)).all())


def test_cos_leaves_who_cannot_fire_more_where_it_is() -> None:
    """A neuron that fires in all ρ steps, with much left, and is not driven afterwards."""
    x_seq = torch.tensor([5.0, 5.0, -10.0, 0.0, 0.0, 0.0], dtype=torch.float64).view(6, 1, 1)
    node = OffsetCalibratedIFNode(1.0, 2)
    spikes, v = run(node, x_seq)
    assert spikes.flatten().tolist() == [1, 1, 0, 0, 0, 0]
    assert v.item() == -1.5
