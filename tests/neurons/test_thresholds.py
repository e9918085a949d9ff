"""Thresholds from histograms: never worse than one threshold, on the values that the histogram holds."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from las_sj.neurons import MTNode, MultiThresholdCode, OATNode
from las_sj.neurons.thresholds import BINS, bin_centres, magnitude_histogram, solve_thresholds

CODES = st.builds(
    MultiThresholdCode,
    time_steps=st.integers(1, 20),
    levels=st.sampled_from([1, 3, 15]),
    rounding=st.sampled_from(["nearest", "floor"]),
    max_spikes=st.sampled_from([None, 1, 3]),
)
IN_BIN = 1.02  # bins are 1/32 octave wide, so values are known to 2 %


def heavy_tailed(seed: int, spread: float, count: int = 4000) -> Tensor:
    values = torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.sign() * (values.abs() * spread).exp()


def squared_error(values: Tensor, thresholds: tuple[float, float], code: MultiThresholdCode) -> float:
    node = OATNode(*thresholds, code.time_steps, code.levels, code.rounding, code.max_spikes)
    return float((node(values) - values).square().sum())


@given(CODES, st.integers(0, 5), st.sampled_from([0.3, 1.0, 2.5]), st.sampled_from([1.0, 1.5, 8.0]))
def test_never_worse_than_one_threshold(code: MultiThresholdCode, seed: int, spread: float, headroom: float) -> None:
    values = heavy_tailed(seed, spread)
    limit = float(values.abs().max()) * headroom
    thresholds = solve_thresholds(magnitude_histogram(values), limit, code, outlier_aware=True)
    assert thresholds[1] == limit
    assert 0 < thresholds[0] <= limit
    solved, single = squared_error(values, thresholds, code), squared_error(values, (limit, limit), code)
    assert solved <= single * IN_BIN**2 + 1e-20


@pytest.mark.parametrize("levels", [1, 15])
def test_outliers_make_two_thresholds_pay(levels: int) -> None:
    """A few values a thousand times as large as the rest: the error of the rest falls by far."""
    values = torch.rand(10_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    values[::1000] *= 1000
    limit = float(values.abs().max())
    code = MultiThresholdCode(10, levels)
    thresholds = solve_thresholds(magnitude_histogram(values), limit, code, outlier_aware=True)
    assert 0.4 < thresholds[0] < 2
    assert squared_error(values, thresholds, code) < 0.05 * squared_error(values, (limit, limit), code)


def test_single_threshold() -> None:
    code = MultiThresholdCode(8, 15)
    histogram = magnitude_histogram(heavy_tailed(0, 1.0))
    assert solve_thresholds(histogram, 7.5, code, outlier_aware=False) == (7.5, 7.5)
    node = MTNode(7.5, 8, 15)
    values = heavy_tailed(0, 0.5)
    assert squared_error(values, (7.5, 7.5), code) == pytest.approx(float((node(values) - values).square().sum()))


def test_nothing_seen() -> None:
    assert solve_thresholds(torch.zeros(BINS, dtype=torch.int64), 1.0, MultiThresholdCode(8), True) == (1.0, 1.0)


@given(st.lists(st.floats(1e-30, 1e30), min_size=1, max_size=30))
def test_bins_hold_their_values(values: list[float]) -> None:
    x = torch.tensor(values, dtype=torch.float32)
    histogram = magnitude_histogram(torch.cat([x, -x]))
    assert int(histogram.sum()) == 2 * len(values)
    centres = bin_centres()
    occupied = centres[histogram > 0]
    for value in x.double():
        assert float((occupied / value).log2().abs().min()) <= 1 / 32
    assert len(occupied) <= len(values)


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_not_finite(bad: float, dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match="infinite or NaN"):
        magnitude_histogram(torch.tensor([1.0, bad], dtype=dtype))


def test_zeros_count() -> None:
    histogram = magnitude_histogram(torch.tensor([0.0, -0.0, 2.0]))
    assert int(histogram[0]) == 2
    assert int(histogram.sum()) == 3
