"""How many spikes a window has, without visiting its steps: counts looked up in tables."""

from functools import lru_cache

import torch
from torch import Tensor

from las_sj.neurons.code import MultiThresholdCode, emit_steps

_LARGEST_TABLE = 1 << 20  # bytes: a larger one does not stay in a processor's cache
_DIGITS = 16
_CHUNK = 1 << 18


def can_look_up(code: MultiThresholdCode) -> bool:
    """Whether `count_spikes` knows the code: one level, and few enough time steps for a table."""
    return code.levels == 1 and code.max_spikes is None and _entries(code) <= _LARGEST_TABLE


def count_spikes(w: Tensor, code: MultiThresholdCode) -> Tensor:
    """The number of spikes that `emit_steps` yields, for inputs in range and codes that `can_look_up`.

    Every decision of the dynamics compares the potential with a multiple of half the smallest threshold unit, so the
    count is the same between two of them. A table has one entry for each interval and for each end of one.

    Args:
        w: membrane potential in units of θ(1)/n, [...], fp32 or fp64; not changed.
        code: the settings.

    Returns:
        Counts, int8 [...].
    """
    halves = w.abs().mul_(2.0**code.time_steps)
    index = halves.floor().add_(halves.ceil_()).to(torch.int32)
    return torch.index_select(_count_table(code, w.device), 0, index.reshape(-1)).view(w.shape)


def most_spikes(code: MultiThresholdCode) -> int:
    """An upper bound of the spikes that an input in range can cause, reached by some input."""
    most = min(code.spike_bound + code.nearest, code.time_steps)
    return most if code.max_spikes is None else min(most, code.max_spikes)


def count_ones(digits: Tensor, length: int) -> Tensor:
    """The number of ones in the binary digits of whole numbers below 2^length ≤ 2^24 (int32 [...]), int8 [...]."""
    table = _ones_table(digits.device)
    if length <= _DIGITS:
        return torch.index_select(table, 0, digits.reshape(-1)).view(digits.shape)
    low = torch.index_select(table, 0, (digits & ((1 << _DIGITS) - 1)).reshape(-1))
    high = torch.index_select(table, 0, (digits >> _DIGITS).reshape(-1))
    return (low + high).view(digits.shape)


def _entries(code: MultiThresholdCode) -> int:
    return (2 * code.levels + 1) << (code.time_steps + 1)


@lru_cache(maxsize=8)
def _count_table(code: MultiThresholdCode, device: torch.device) -> Tensor:
    """Counts at 0, 1/4, 2/4, … of the smallest unit: points, and intervals by their middles; int8 [entries]."""
    table = torch.zeros(_entries(code), dtype=torch.int8)
    for start in range(0, len(table), _CHUNK):
        part = table[start : start + _CHUNK]
        w = torch.arange(start, start + len(part), dtype=torch.float32) * 2.0 ** -(code.time_steps + 1)
        for spike in emit_steps(w, code):
            part += (spike != 0).view(torch.int8)
    return table.to(device)


@lru_cache(maxsize=8)
def _ones_table(device: torch.device) -> Tensor:
    numbers = torch.arange(1 << _DIGITS, dtype=torch.int32)
    return sum((numbers >> digit) & 1 for digit in range(_DIGITS)).to(torch.int8).to(device)  # type: ignore[union-attr]
