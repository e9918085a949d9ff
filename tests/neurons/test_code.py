"""The multi-threshold code against its definition. Potentials are in units of θ(1)/n, so α = 2n."""

from fractions import Fraction

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from las_sj.neurons.code import MultiThresholdCode, accumulate, emit_steps, write_train
from las_sj.neurons.counting import can_look_up, count_ones, count_spikes, most_spikes
from las_sj.neurons.counts import WindowCounts

DTYPES = (torch.float32, torch.float64)
LEVELS = (1, 2, 3, 7, 15)
ROUNDINGS = ("nearest", "floor")
MAX_SPIKES = (None, 1, 2, 3)

every_code = st.builds(
    MultiThresholdCode,
    time_steps=st.integers(1, 24),
    levels=st.sampled_from(LEVELS),
    rounding=st.sampled_from(ROUNDINGS),
    max_spikes=st.sampled_from(MAX_SPIKES),
)
shapes = st.lists(st.integers(0, 5), max_size=3)
seeds = st.integers(0, 2**32 - 1)


def hard_potentials(code: MultiThresholdCode, dtype: torch.dtype) -> Tensor:
    """Thresholds, points where rounding and firing change and their neighbours, denormals, outliers."""
    n = code.levels
    levels = torch.cat([torch.arange(0, 2 * n + 1, 0.25), torch.tensor([n - 0.25, n / 2])]).to(dtype)
    w = (levels * 2.0 ** -torch.arange(code.time_steps + 1, dtype=dtype)[:, None]).flatten()
    w = torch.cat([w, torch.nextafter(w, w + 1), torch.nextafter(w, w - 1)])
    tiny = torch.finfo(dtype).smallest_normal
    w = torch.cat([w, w.new_tensor([tiny, tiny / 4, 1e30, torch.inf, 2 * n + 0.5, 4 * n])])
    return torch.cat([w, -w])


def in_range(w: Tensor, code: MultiThresholdCode) -> Tensor:
    return w[w.abs() <= 2 * code.levels]


def strictly_in_range(w: Tensor, code: MultiThresholdCode) -> Tensor:
    """What the fast forms are for."""
    return torch.where(w.abs() < 2 * code.levels, w, 0)


def train_of(w: Tensor, code: MultiThresholdCode) -> Tensor:
    return torch.stack(list(emit_steps(w, code)))


def draw_potentials(code: MultiThresholdCode, dtype: torch.dtype, shape: list[int], seed: int) -> Tensor:
    """Half hard values, half uniform ones, up to twice the range; of any shape."""
    generator = torch.Generator().manual_seed(seed)
    hard = hard_potentials(code, dtype)
    picked = hard[torch.randint(len(hard), shape, generator=generator)]
    uniform = (torch.rand(shape, generator=generator, dtype=dtype) * 8 - 4) * code.levels
    return torch.where(torch.rand(shape, generator=generator) < 0.5, picked, uniform)


def check_fast_forms(w: Tensor, code: MultiThresholdCode) -> None:
    """accumulate gives the correctly rounded sum of the train, write_train the train; all count its spikes."""
    before, train = w.clone(), train_of(w, code)
    spikes = (train != 0).sum(0)
    exact = train.double().sum(0).to(w.dtype)  # fp64 holds the sum of 24 steps exactly
    counts = torch.zeros(w.shape, dtype=torch.int8)
    total = WindowCounts(True)
    accumulate(w, code, total)
    assert int(total.spikes) == int(spikes.sum())
    for y in (accumulate(w, code), accumulate(w, code, WindowCounts(True, counts))):
        assert y.dtype == w.dtype
        assert torch.equal(y, exact)
        assert torch.equal(w, before)
    assert torch.equal(counts, spikes)
    if can_look_up(code):
        assert torch.equal(count_spikes(w, code), spikes)
        assert torch.equal(w, before)
    for counter in (None, counts.zero_()):
        remainder, written = w.clone(), torch.full_like(train, torch.nan)
        write_train(
            remainder, w.new_tensor(4.0), written, code, None if counter is None else WindowCounts(True, counter)
        )
        assert torch.equal(written, 4 * train)
    assert torch.equal(counts, spikes)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("max_spikes", MAX_SPIKES)
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("levels", LEVELS)
def test_fast_forms(levels: int, rounding: str, max_spikes: int | None, dtype: torch.dtype) -> None:
    for time_steps in (1, 2, 3, 8, 16, 24):
        code = MultiThresholdCode(time_steps, levels, rounding, max_spikes)
        check_fast_forms(strictly_in_range(hard_potentials(code, dtype), code), code)


@given(every_code, st.sampled_from(DTYPES), shapes, seeds)
@example(MultiThresholdCode(16), torch.float32, [], 0)
@example(MultiThresholdCode(16), torch.float32, [0], 0)
@example(MultiThresholdCode(16, 15), torch.float64, [2, 0, 3], 0)
@example(MultiThresholdCode(16, 15), torch.float64, [1], 0)
def test_fast_forms_of_any_shape(code: MultiThresholdCode, dtype: torch.dtype, shape: list[int], seed: int) -> None:
    w = strictly_in_range(draw_potentials(code, dtype, shape, seed), code)
    assert accumulate(w, code).shape == w.shape
    check_fast_forms(w, code)


@given(every_code, st.sampled_from(DTYPES))
def test_nan_stays_in_its_element(code: MultiThresholdCode, dtype: torch.dtype) -> None:
    w = hard_potentials(code, dtype)[:40]
    spoilt = w.clone()
    spoilt[3] = torch.nan
    others = torch.arange(40) != 3
    train = train_of(spoilt, code)
    assert train[:, 3].isnan().all()
    assert torch.equal(train[:, others], train_of(w, code)[:, others])


def naive_amount(v: Fraction, t: int, code: MultiThresholdCode) -> Fraction:
    """What |v| fires at step t, by las.md's section on the MT neuron: thresholds of α = 2n one after the other."""
    n = code.levels
    theta = Fraction(2 * n, 2**t)
    amounts = [theta * (1 + Fraction(j, n)) for j in range(n)]
    if code.rounding == "floor":
        return max((amount for amount in amounts if v >= amount), default=Fraction(0))
    fires_from = theta / 2 if t == code.time_steps else theta * (1 - Fraction(1, 4 * n))
    if v < fires_from:
        return Fraction(0)
    if t == 1:
        amounts.append(2 * theta)
    return min(amounts, key=lambda amount: (abs(v - amount), amount * n / theta % 2))  # ties to even


def naive_train(w: float, code: MultiThresholdCode) -> list[float]:
    v = Fraction(w)
    train: list[Fraction] = []
    for t in range(1, code.time_steps + 1):
        spikes = sum(emitted != 0 for emitted in train)
        exhausted = code.max_spikes is not None and spikes == code.max_spikes
        emitted = Fraction(0) if exhausted else naive_amount(abs(v), t, code) * (1 if v > 0 else -1)
        v -= emitted
        train.append(emitted)
    return [float(emitted) for emitted in train]


@given(every_code, st.data())
def test_train_by_definition(code: MultiThresholdCode, data: st.DataObject) -> None:
    hard = [w for w in hard_potentials(code, torch.float64).tolist() if abs(w) <= 1e30]
    limit = 3.0 * code.levels
    potentials = st.lists(st.one_of(st.sampled_from(hard), st.floats(-limit, limit)), min_size=8, max_size=8)
    w = data.draw(potentials)
    expected = torch.tensor([naive_train(value, code) for value in w], dtype=torch.float64).T
    assert torch.equal(train_of(torch.tensor(w, dtype=torch.float64), code), expected)


def test_train_by_hand() -> None:
    """0.8125·α is 0.1101 in binary and 1 − 1/4 + 1/16 in signed digits (2θ(1) = α)."""
    w = torch.tensor([2 * 0.8125], dtype=torch.float64)
    assert train_of(w, MultiThresholdCode(4, 1, "floor")).flatten().tolist() == [1, 0.5, 0, 0.125]
    assert train_of(w, MultiThresholdCode(4, 1, "nearest")).flatten().tolist() == [2, -0.5, 0, 0.125]
    assert train_of(w, MultiThresholdCode(4, 1, "nearest", 2)).flatten().tolist() == [2, -0.5, 0, 0]


@given(every_code, st.sampled_from(DTYPES), seeds)
def test_error_bound(code: MultiThresholdCode, dtype: torch.dtype, seed: int) -> None:
    w = in_range(torch.cat([hard_potentials(code, dtype), draw_potentials(code, dtype, [500], seed)]), code)
    error = (w.double() - train_of(w, code).double().sum(0)).abs()
    bound = code.error_bound(w.double(), 2.0 * code.levels)
    assert bound.shape == w.shape
    assert bool((error <= bound).all())  # no tolerance: powers of two and integers


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("levels", LEVELS)
def test_error_bound_is_reached(levels: int, rounding: str) -> None:
    code = MultiThresholdCode(8, levels, rounding)
    w = torch.linspace(-2 * levels, 2 * levels, 100_001, dtype=torch.float64)
    error = (w - train_of(w, code).sum(0)).abs().max()
    assert error > 0.95 * code.error_bound(w, 2.0 * levels).max()


def test_error_bound_by_hand() -> None:
    v = torch.tensor([1.0, 0.001], dtype=torch.float64)
    assert MultiThresholdCode(3).error_bound(v, 2.0).tolist() == [0.125, 0.125]
    assert MultiThresholdCode(3, 1, "floor").error_bound(v, 2.0).tolist() == [0.25, 0.25]
    assert MultiThresholdCode(3, 4, "nearest", 1).error_bound(v, 0.5).tolist() == [0.125, 0.03125]
    assert MultiThresholdCode(9, 4, "floor", 2).error_bound(v, 0.5).tolist() == [0.0625, 2**-10]


@given(every_code, st.sampled_from(DTYPES), seeds)
def test_steps_emit_thresholds(code: MultiThresholdCode, dtype: torch.dtype, seed: int) -> None:
    n = code.levels
    train = train_of(draw_potentials(code, dtype, [200], seed), code)
    level = train.abs() * 2.0 ** torch.arange(code.time_steps, dtype=dtype)[:, None]  # n + j, or 0
    assert torch.equal(level, level.round())
    assert bool(((level == 0) | (level >= n)).all())
    assert level[1:].numel() == 0 or level[1:].max() <= 2 * n - 1
    assert level[0].max() <= (2 * n if code.nearest else 2 * n - 1)


@given(every_code, st.sampled_from(DTYPES))
def test_spikes_are_few(code: MultiThresholdCode, dtype: torch.dtype) -> None:
    w = hard_potentials(code, dtype)
    spikes = (train_of(w, code) != 0).sum(0)
    assert spikes.max() <= (code.max_spikes or code.time_steps)
    strictly_inside = w.abs() < 2 * code.levels
    assert spikes[strictly_inside].max() <= code.spike_bound + code.nearest  # nearest: the last step's special rule


def test_first_spike_may_be_two_theta() -> None:
    code = MultiThresholdCode(8, 3, "nearest")
    assert train_of(torch.tensor([6.0, 5.6, 5.5, 5.4]), code)[0].tolist() == [6, 6, 6, 5]


def test_binary_steps_count_in_binary() -> None:
    """T binary steps represent 2^T values."""
    w = (torch.arange(256, dtype=torch.float64) + 0.5) / 128
    assert len(accumulate(w, MultiThresholdCode(8, 1, "floor")).unique()) == 256


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        *(("time_steps", {"time_steps": value}) for value in (0, 25, -1, 1.5, True, "8")),
        *(("levels", {"time_steps": 8, "levels": value}) for value in (0, 128, 2.0, True)),
        *(("rounding", {"time_steps": 8, "rounding": value}) for value in ("up", None)),
        *(("max_spikes", {"time_steps": 8, "max_spikes": value}) for value in (0, -1, 1.0, True)),
    ],
)
def test_bad_settings(field: str, settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=field):
        MultiThresholdCode(**settings)  # type: ignore[arg-type]


def test_count_of_ones() -> None:
    digits = torch.cat([torch.arange(1 << 12), torch.randint(1 << 24, (5000,)), torch.tensor([(1 << 24) - 1])]).int()
    expected = [int(number).bit_count() for number in digits]
    assert count_ones(digits, 24).tolist() == expected
    assert count_ones(digits, 24).dtype == torch.int8
    assert count_ones(digits[:6].view(2, 3), 12).shape == (2, 3)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("levels", LEVELS)
def test_most_spikes_bounds_the_count(levels: int, rounding: str) -> None:
    for time_steps in (1, 2, 3, 8, 16):
        for limit in (None, 1, 2):
            code = MultiThresholdCode(time_steps, levels, rounding, limit)
            w = strictly_in_range(hard_potentials(code, torch.float64), code)
            assert int((train_of(w, code) != 0).sum(0).max()) <= most_spikes(code) <= time_steps
