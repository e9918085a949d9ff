"""Tables of what a code makes of magnitudes, against the code itself."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from las_sj.neurons import MultiThresholdCode, OATNode
from las_sj.neurons.responses import outcomes, response_of
from las_sj.neurons.thresholds import BINS, magnitude_bins

CODES = st.builds(
    MultiThresholdCode,
    time_steps=st.integers(3, 12),
    levels=st.sampled_from([1, 3, 7, 15]),
    rounding=st.sampled_from(["nearest", "floor"]),
    max_spikes=st.sampled_from([None, 1, 2, 3]),
)


def spikes_and_error(node: OATNode, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return (node.spikes_of(v) != 0).sum(0).double(), (node(v) - v).double().square()


@settings(max_examples=12)
@given(CODES, st.integers(0, 2**16), st.sampled_from([0.0, 0.02, 0.3]))
def test_outcomes_are_those_of_neurons(code: MultiThresholdCode, seed: int, share_of_outliers: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(8000, generator=generator)
    v[: int(len(v) * share_of_outliers)] *= 40
    weight = torch.rand(len(v), generator=generator)
    bins = magnitude_bins(v)
    counts, weights = torch.bincount(bins, minlength=BINS), torch.bincount(bins, weight.double(), minlength=BINS)
    limit = 1.5 * float(v.abs().max())
    found = outcomes(counts, weights, limit, code, limit / 64)
    for index in torch.randint(len(found.error), (4,), generator=generator).tolist():
        normal, outlier = float(found.theta_normal[index]), float(found.theta_outlier[index])
        assert outlier >= max(normal, limit)
        node = OATNode(normal, outlier, code.time_steps, code.levels, code.rounding, code.max_spikes)
        spikes, error = spikes_and_error(node, v)
        assert float(found.spikes[index]) == pytest.approx(float(spikes.sum()), rel=0.02, abs=0.03 * len(v))
        # Weights are spread over a bin alike, errors are not: means of bins are near, single values are not.
        assert float(found.error[index]) == pytest.approx(float((error * weight).sum()), rel=0.2)


@settings(max_examples=12)
@given(CODES, st.sampled_from([1.0, 1.25, 1.875]))
def test_a_response_is_the_mean_of_its_bin(code: MultiThresholdCode, mantissa: float) -> None:
    table = response_of(code, mantissa)
    node = OATNode(mantissa, mantissa, code.time_steps, code.levels, code.rounding, code.max_spikes)
    v = torch.linspace(0.5, 0.5 + 0.5 / 32, 4001)[:-1] + 0.5 / 32 / 8000  # one bin
    spikes, error = spikes_and_error(node, v)
    place = int(magnitude_bins(v)[0]) - table.first
    assert float(table.spikes[place]) == pytest.approx(float(spikes.mean()), abs=0.75)  # of 8 points
    assert float(table.error[place]) == pytest.approx(float(error.mean()), rel=1.0, abs=1e-9)


def test_silent_below_half_of_the_last_threshold() -> None:
    code = MultiThresholdCode(6)
    v = torch.full((10,), 2.0**-9)
    counts = torch.bincount(magnitude_bins(v), minlength=BINS)
    found = outcomes(counts, counts.double(), 1.0, code, 0.9)
    coarse = found.theta_normal >= 1
    assert bool((found.spikes[coarse] == 0).all())
    assert found.error[coarse].tolist() == pytest.approx([10 * 2.0**-18] * int(coarse.sum()), rel=0.04)  # of a bin


def test_units_that_are_powers_of_two() -> None:
    v = torch.linspace(0.01, 1, 1000)
    counts = torch.bincount(magnitude_bins(v), minlength=BINS)
    found = outcomes(counts, counts.double(), 1.0, MultiThresholdCode(8, 15), 0.1, power_of_two_units=True)
    for theta in [*found.theta_normal.tolist(), *found.theta_outlier.tolist()]:
        assert math.log2(theta / 15).is_integer()
