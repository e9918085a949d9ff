"""The multi-threshold code: what a neuron with thresholds α·2^-t and n levels emits for a membrane potential.

Everything here works on the membrane potential in units of θ(1)/n, w = v·2n/α. Level j of step t is then the integer
n + j times 2^-(t-1), and scaling by powers of two is exact.

`emit_steps` is the dynamics as defined, step by step, for any input. For inputs in range there are two fast forms, of
which it is the oracle: `write_train`, and `accumulate`, which gives the sum without visiting the steps: it visits the
spikes, of which there are few (with 15 levels at most ⌈T/5⌉, and one at the last step).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from las_sj.neurons.counts import WindowCounts

MAX_TIME_STEPS = 24  # the mantissa of fp32
ROUNDINGS = ("nearest", "floor")

_NEVER = 2.0**60  # a spike size so large that nothing rounds to it
_EXPONENT_BITS = {torch.float32: (torch.int32, 0xFF << 23), torch.float64: (torch.int64, 0x7FF << 52)}


@dataclass(frozen=True)
class MultiThresholdCode:
    """Settings of the code (LAS, arXiv 2505.09659, section on the multi-threshold neuron).

    At step t the thresholds are θ(t)·(1 + j/n), j = 0 … n−1, with θ(t) = α·2^-t.
    "floor": the highest threshold that |v| reaches fires and is subtracted.
    "nearest": the neuron fires when |v| ≥ θ(t)(1 − 1/4n) (at the last step |v| ≥ θ(T)/2), at the level nearest to
    |v| (2θ(1) too at step 1; ties to even), and the remainder may be negative.

    Args:
        time_steps: T, 1 … 24.
        levels: n ≥ 1.
        rounding: "nearest" or "floor".
        max_spikes: spikes allowed per window (refractory after the last), or None. A neuron fires at most once a
            step, so that T or more is no limit, and kept as None.

    Raises:
        ValueError: a setting is out of its range.
    """

    time_steps: int
    levels: int = 1
    rounding: str = "nearest"
    max_spikes: int | None = None

    def __post_init__(self) -> None:
        if not _is_int(self.time_steps) or not 1 <= self.time_steps <= MAX_TIME_STEPS:
            raise ValueError(f"time_steps must be an integer in 1…{MAX_TIME_STEPS}, got {self.time_steps!r}")
        if not _is_int(self.levels) or not 1 <= self.levels <= 127:
            raise ValueError(f"levels must be an integer in 1…127, got {self.levels!r}")
        if self.rounding not in ROUNDINGS:
            raise ValueError(f"rounding must be one of {', '.join(ROUNDINGS)}, got {self.rounding!r}")
        if self.max_spikes is not None and (not _is_int(self.max_spikes) or self.max_spikes < 1):
            raise ValueError(f"max_spikes must be None or an integer >= 1, got {self.max_spikes!r}")
        if self.max_spikes is not None and self.max_spikes >= self.time_steps:
            object.__setattr__(self, "max_spikes", None)  # never reached; kernels have 32 bits for it

    @property
    def nearest(self) -> bool:
        """Whether amplitudes are rounded to the nearest one, and not down."""
        return self.rounding == "nearest"

    @property
    def fire_at(self) -> float:
        """The potential, in units of θ(t)/n, from which a neuron fires at step t < T."""
        return self.levels - 0.25 if self.nearest else float(self.levels)

    @property
    def fire_at_last(self) -> float:
        """The potential, in units of θ(T)/n, from which a neuron fires at the last step."""
        return self.levels / 2 if self.nearest else float(self.levels)

    @property
    def spike_bound(self) -> int:
        """The most spikes an input in range can cause before the last step's special rule, max_spikes aside.

        A spike at step t leaves |v| ≤ θ(t)/2n ("nearest") or < θ(t)/n ("floor"), which fixes how many steps pass
        before the next.
        """
        gap = math.ceil(math.log2(2 * self.fire_at)) if self.nearest else math.floor(math.log2(self.levels)) + 1
        return math.ceil(self.time_steps / gap)

    def error_bound(self, v: Tensor, alpha: Tensor | float) -> Tensor:
        """Largest |v − Σ| for |v| ≤ α (las.md, section 2): max((1/2n)^k·|v|, α·2^-(T+1)), doubled for "floor"."""
        doubled = 1.0 if self.nearest else 2.0
        smallest = torch.as_tensor(alpha, dtype=v.dtype) * 2.0 ** -(self.time_steps + 1) * doubled
        if self.max_spikes is None:
            return smallest.expand_as(v)
        return torch.maximum(v.abs() * (doubled / (2 * self.levels)) ** self.max_spikes, smallest)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def emit_steps(w: Tensor, code: MultiThresholdCode) -> Iterator[Tensor]:
    """Fire step by step.

    Args:
        w: membrane potential in units of θ(1)/n, [...], fp32 or fp64; not changed.
        code: the settings.

    Yields:
        T tensors [...]: what each step emits, in the same units; 0 where nothing fires.
    """
    n = code.levels
    spikes_left = None if code.max_spikes is None else torch.full_like(w, code.max_spikes)
    w = w.clone()
    for t in range(code.time_steps):
        is_last = t == code.time_steps - 1
        fire_at = code.fire_at_last if is_last else code.fire_at
        spike = torch.threshold_(w.abs(), _just_below(fire_at, w.dtype), 0.0)  # silent below fire_at
        if is_last and code.nearest:
            spike.copy_(torch.where(spike > 0, spike.clamp(min=n), spike))
        spike = spike.round_() if code.nearest else spike.floor_()
        spike.clamp_(max=2 * n if code.nearest and t == 0 else 2 * n - 1).copysign_(w)
        if spikes_left is not None:
            spike.mul_(spikes_left > 0)
            spikes_left.sub_(spike.sign().abs_())
        yield spike * 2.0**-t
        w.sub_(spike).mul_(2)


def write_train(w: Tensor, unit: Tensor, train: Tensor, code: MultiThresholdCode, counts: WindowCounts | None) -> None:
    """`emit_steps` for inputs in range (as in `accumulate`), times `unit`, by five operations a step.

    Args:
        w: membrane potential in units of θ(1)/n, [...]; overwritten with what is left of it.
        unit: θ(1)/n, broadcastable to w.
        train: receives the train, [T, ...].
        code: the settings.
        counts: takes the spikes, or None.
    """
    spikes_left = None if code.max_spikes is None else torch.full_like(w, code.max_spikes)
    spike = torch.empty_like(w)
    for t in range(code.time_steps):
        size = 2.0**-t
        if t == code.time_steps - 1 and code.nearest:
            _last_spike(w, spike, code)
        else:
            torch.hardshrink(w, _just_below(code.fire_at * size, w.dtype), out=spike)
            _round_to_multiple(spike, size, code.nearest)
        if spikes_left is not None:
            spike.mul_(spikes_left.sign())
            spikes_left.sub_(spike.sign().abs_())
        if counts is not None:
            counts.add_counts((spike != 0).view(torch.int8))
        torch.mul(spike, unit, out=train[t])
        w.sub_(spike)


@lru_cache(maxsize=1024)
def _constant(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A number as a tensor: operations with one of another dtype convert it at every call."""
    return torch.tensor(value, dtype=dtype, device=device)


@lru_cache(maxsize=1024)
def _just_below(threshold: float, dtype: torch.dtype) -> float:
    """The largest number below `threshold` in a dtype: what hardshrink and threshold_, which compare by >, need."""
    return float(torch.nextafter(torch.tensor(threshold, dtype=dtype), torch.tensor(0.0, dtype=dtype)))


def _round_to_multiple(x: Tensor, size: float, nearest: bool) -> None:
    """In place, to a multiple of a power of two; nearest (ties to even) by adding and subtracting a large number."""
    if nearest:
        large = _constant(1.5 * size / torch.finfo(x.dtype).eps, x.dtype, x.device)
        x.add_(large).sub_(large)
    else:
        x.mul_(1 / size).trunc_().mul_(size)


def _last_spike(w: Tensor, spike: Tensor, code: MultiThresholdCode) -> None:
    """Step T of "nearest" rounding: from θ(T)/2 on, at least θ(T)."""
    size = 2.0 ** (1 - code.time_steps)
    torch.hardshrink(w, _just_below(code.fire_at_last * size, w.dtype), out=spike)
    least = spike.sign().mul_(code.levels * size)
    _round_to_multiple(spike, size, nearest=True)
    spike.copy_(torch.where(spike.abs() < code.levels * size, least, spike))


def accumulate(w: Tensor, code: MultiThresholdCode, counts: WindowCounts | None = None) -> Tensor:
    """The sum of `emit_steps` over the window, for inputs in range (|w| < 2n, or 2n + 1/2 with "nearest").

    Args:
        w: membrane potential in units of θ(1)/n, [...], contiguous, fp32 or fp64; not changed.
        code: the settings.
        counts: takes the spikes, or None.

    Returns:
        The sum [...] in the same units.
    """
    if code.levels == 1 and code.time_steps > 1 and code.max_spikes is None and counts is None:
        return _accumulate_binary(w, code)
    remainder = _spike_by_spike(w, counts, code)
    return torch.sub(w, remainder, out=remainder)


def _accumulate_binary(w: Tensor, code: MultiThresholdCode) -> Tensor:
    """One level, T > 1: the sum is w on the grid of the last step, up to the largest sum that T spikes give.

    "nearest": a tie makes the last step fire, so the sum is an odd multiple of it.
    """
    last = 2.0 ** (code.time_steps - 1)
    total = w * last
    if not code.nearest:
        return total.trunc_().div_(last).clamp_(-2 + 1 / last, 2 - 1 / last)
    total.clamp_(-3 * last + 1, 3 * last - 1)
    rounded = total.round()
    tie = torch.hardshrink(total.sub_(rounded), _just_below(0.5, w.dtype))  # ±1/2, or 0
    return rounded.add_(tie, alpha=2).div_(last)


def _spike_by_spike(w: Tensor, counts: WindowCounts | None, code: MultiThresholdCode) -> Tensor:
    """Subtract one spike after the other; for inputs in range, returns what is left of the potential."""
    smallest = 2.0 ** (1 - code.time_steps)
    integer, exponent_bits = _EXPONENT_BITS[w.dtype]
    fire_at, exponent = _constant(code.fire_at, w.dtype, w.device), _constant(exponent_bits, integer, w.device)
    w = w.clone()
    size, spike = torch.empty_like(w), torch.empty_like(w)
    spikes = code.spike_bound if code.max_spikes is None else min(code.spike_bound, code.max_spikes)
    for index in range(spikes):
        # The step at which |w| fires first: the largest power of two, at most 1, with |w| ≥ fire_at · size.
        torch.div(w, fire_at, out=size).view(integer).bitwise_and_(exponent)
        if index == 0:
            size.clamp_(max=1.0)
        torch.threshold_(size, smallest * 0.75, _NEVER)
        torch.div(w, size, out=spike)
        w.sub_((spike.round_() if code.nearest else spike.trunc_()).mul_(size))
        if counts is not None:
            counts.add_fired(torch.lt(size, _NEVER, out=spike))  # 0 or 1 as numbers: faster than bool
    if code.nearest:
        _fire_last(w, size, spike, counts, code, exhausted=spikes in (code.max_spikes, code.time_steps))
    return w


def _fire_last(
    w: Tensor, size: Tensor, spike: Tensor, counts: WindowCounts | None, code: MultiThresholdCode, exhausted: bool
) -> None:
    """Step T of "nearest" rounding: |v| from θ(T)/2 to θ(T) fires θ(T) where a spike is left."""
    smallest = 2.0 ** (1 - code.time_steps)
    torch.hardshrink(w, _just_below(code.fire_at_last * smallest, w.dtype), out=spike).sign_()
    if exhausted:
        spike.mul_(size == _NEVER)
    if counts is not None:
        counts.add_fired(spike.abs())
    w.sub_(spike, alpha=code.levels * smallest)
