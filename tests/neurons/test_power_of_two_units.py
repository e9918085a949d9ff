"""Thresholds with θ/n a power of two: every spike is the same number in single and in half precision, and in int8."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from las_sj.neurons import MTNode, OATNode, SeenValues, ThresholdNode
from las_sj.neurons.soundness import LEAST, MOST
from las_sj.neurons.thresholds import least_with_power_of_two_unit

HALF = [torch.bfloat16, torch.float16]


def calibrated(kind: type[ThresholdNode], levels: int, v: Tensor, *, power_of_two_units: bool) -> ThresholdNode:
    """A node of T = 12 steps, calibrated on `v` with a headroom of 1.5."""
    node = MTNode(1.0, 12, levels) if kind is MTNode else OATNode(1.0, 1.0, 12, levels)
    node.power_of_two_units = power_of_two_units
    seen = SeenValues()
    seen.add(v)
    node.calibrate(seen, 1.5)
    return node


def values(scale: float = 1.0) -> Tensor:
    """With outliers, [2, 500]."""
    v = torch.randn(2, 500, generator=torch.Generator().manual_seed(0)) * scale
    v[0, :5] *= 40
    return v


@given(st.floats(LEAST, MOST), st.integers(1, 127))
def test_units(limit: float, levels: int) -> None:
    theta = least_with_power_of_two_unit(limit, levels)
    assert math.frexp(theta / levels)[0] == 0.5  # a power of two
    assert theta <= MOST
    assert limit <= theta < 2 * limit or theta > MOST / 2


@pytest.mark.parametrize("kind", [MTNode, OATNode])
@pytest.mark.parametrize("levels", [1, 3, 15, 63])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 300.0])
def test_spikes_are_exact_in_half_precision_and_int8(kind: type[ThresholdNode], levels: int, scale: float) -> None:
    v = values(scale)
    node = calibrated(kind, levels, v, power_of_two_units=True)
    node.step_mode = "m"
    assert all(math.frexp(float(theta) / levels)[0] == 0.5 for theta in node.thresholds)
    train = node(v.unsqueeze(0))
    assert bool((train != 0).any())
    for dtype in HALF:
        smallest = float(node.thresholds[0]) / levels * 2.0**-12
        if smallest >= torch.finfo(dtype).smallest_normal:  # fp16 has no smaller numbers of so many digits
            assert torch.equal(train.to(dtype).float(), train)
    digits = node.spikes_of(v).to(torch.int8)
    size = 2.0 ** -torch.arange(1, 13).view(-1, 1, 1)
    assert torch.equal(digits * (node.alpha(v) / levels) * size, train)


@pytest.mark.parametrize("kind", [MTNode, OATNode])
def test_others_are_not(kind: type[ThresholdNode]) -> None:
    node = calibrated(kind, 15, values(), power_of_two_units=False)
    node.step_mode = "m"
    train = node(values().unsqueeze(0))
    assert not torch.equal(train.bfloat16().float(), train)


@pytest.mark.parametrize("dtype", HALF)
def test_a_train_of_half_precision_is_that_of_single_precision(dtype: torch.dtype) -> None:
    v = values().to(dtype)
    node = calibrated(OATNode, 15, v, power_of_two_units=True)
    node.step_mode = "m"
    train = node(v.unsqueeze(0))
    assert train.dtype == dtype
    assert torch.equal(train.float(), node(v.float().unsqueeze(0)))


def test_thresholds_cost_less_than_a_bit() -> None:
    plain, even = (calibrated(OATNode, 15, values(), power_of_two_units=choice) for choice in (False, True))
    assert 1 <= float(even.thresholds[1] / plain.thresholds[1]) < 2
    errors = [float((node(values()) - values()).square().mean().sqrt()) for node in (plain, even)]
    assert errors[1] < 2 * errors[0]
