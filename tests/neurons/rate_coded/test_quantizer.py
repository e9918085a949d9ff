"""The quantised activation: values and gradients (properties 1 to 3 of QCFS)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from las_sj.neurons.rate_coded import QCFSQuantizer

THETAS = (2.0, 1.24, 2.5, 0.37)
LEVELS = (1, 4, 8, 16)


def values(theta: float, count: int = 20001) -> Tensor:
    """Evenly spread over more than the range."""
    return torch.linspace(-1.5 * theta, 2.5 * theta, count, dtype=torch.float64)


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("theta", THETAS)
def test_both_orders_give_the_same_levels(theta: float, levels: int) -> None:
    first, last = (QCFSQuantizer(theta, levels, clip_first) for clip_first in (True, False))
    x = values(theta)
    y, scale = first(x), float(first.theta.detach())
    assert torch.equal(y, last(x))
    torch.testing.assert_close((y * levels / scale).round() / levels * scale, y, rtol=1e-15, atol=0)
    assert y.min() == 0
    assert y.max() == scale
    assert float((y - x.clamp(0, scale)).detach().abs().max()) <= scale / (2 * levels) * (1 + 1e-12)


def test_halves_round_up() -> None:
    assert QCFSQuantizer(1.0, 4)(torch.tensor([0.125, 0.375, 0.625, 0.875])).tolist() == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("levels", LEVELS)
def test_its_levels_stay_what_they_are(levels: int) -> None:
    quantizer = QCFSQuantizer(1.24, levels)
    y = quantizer(values(1.24))
    assert torch.equal(quantizer(y), y)


@pytest.mark.parametrize("clip_first", [True, False])
@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("theta", THETAS)
def test_gradients(theta: float, levels: int, clip_first: bool) -> None:
    quantizer = QCFSQuantizer(torch.full((20001,), theta, dtype=torch.float64), levels, clip_first)
    x = values(theta).requires_grad_()
    y = quantizer(x)
    y.sum().backward()
    edge = 0.0 if clip_first else theta / (2 * levels)
    inside = (x >= -edge) & ((x <= theta) if clip_first else (x < theta + edge))
    near = ((x + edge).abs() < 1e-9) | ((x - theta - edge).abs() < 1e-9)  # which side rounding takes
    expected = torch.where(inside, (y - x) / theta, (x > 0).double())
    assert x.grad is not None
    assert quantizer.theta.grad is not None
    torch.testing.assert_close(x.grad[~near], inside.double()[~near], rtol=1e-12, atol=0)
    torch.testing.assert_close(quantizer.theta.grad[~near], expected[~near], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_the_result_alone(dtype: torch.dtype) -> None:
    x = values(2.0).to(dtype)
    quantizer = QCFSQuantizer(2.0, 8)
    assert torch.equal(quantizer(x), quantizer(x.float()).to(dtype))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(width=32), max_size=8), st.integers(1, 64))
def test_any_values(numbers: list[float], levels: int) -> None:
    x = torch.tensor(numbers, dtype=torch.float32)
    y = QCFSQuantizer(1.5, levels)(x)
    assert torch.equal(y.isnan(), x.isnan())
    kept = y[~x.isnan()]
    assert bool(((kept >= 0) & (kept <= 1.5)).all())


def test_a_threshold_that_training_brings_below_zero_stays_positive() -> None:
    quantizer = QCFSQuantizer(1.0, 4)
    quantizer.theta.data.fill_(-3.0)
    assert quantizer(torch.ones(3)).isfinite().all()
    assert (quantizer(torch.ones(3)) > 0).all()


@pytest.mark.parametrize("theta", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_thresholds(theta: float) -> None:
    with pytest.raises(ValueError, match="theta must be finite and positive"):
        QCFSQuantizer(theta, 4)


@pytest.mark.parametrize("levels", [0, -1, 1.5, True])
def test_bad_levels(levels: int) -> None:
    with pytest.raises(ValueError, match="levels must be an integer >= 1"):
        QCFSQuantizer(1.0, levels)
