"""Octave gates of whole rows: they keep a coder precise where a row is far from the range that calibration has seen.

The largest magnitude of a row opens one of several populations. That of octave 0 has the calibrated thresholds θ and
serves the calibrated range; that of octave k has θ·2^k, so that it codes such a row as octave 0 codes one that is 2^k
times smaller. A population here computes what it emits by shifting the potentials by k binary digits, which is exact.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from las_sj.neurons import watching
from las_sj.neurons.fan_out import FanOut
from las_sj.neurons.fetching import fetched
from las_sj.neurons.octave_gates import LAYOUT
from las_sj.neurons.window import WindowNode

ROUNDING_ALLOWANCE = 2.0**-10  # an input so little above the range is coded as its end, not lost
OCTAVES = 126  # on either side of octave 0: the normal numbers of fp32


@dataclass(frozen=True)
class Bounds:
    """Which rows belong to octave 0, and where the others are brought; in units of the outermost threshold.

    Attributes:
        low: least largest magnitude of octave 0.
        target: largest magnitude of a row after the shift, at most; at least half of it.
        floor: magnitudes below it are taken for it.
    """

    low: Tensor | float = 0.0
    target: Tensor | float = 1.0
    floor: Tensor | float = 0.0


class RowOctaves:
    """Octave gates of a coder whose spikes have the size of what they code: 2^k times as large in octave k."""

    restores = True  # whether spikes have the size of what was coded

    def bounds(self, limit: Tensor, channels: int) -> Bounds:
        """Rows up to the outermost threshold `limit` belong to octave 0, however small they are."""
        return Bounds()

    def of(self, coder: "RowGatedNode", v: Tensor) -> Tensor:
        """k + `OCTAVES` for the octaves k of rows of potentials `v`: [..., C] to whole numbers from 0 on, [..., 1]."""
        size, bounds = self._relative_size(coder, v), self.bounds(coder.limit(v), v.shape[-1])
        gates = _powers(size, 1)
        octave = torch.bucketize(size.clamp(min=bounds.floor) / bounds.target, gates).clamp(max=2 * OCTAVES)
        inside = (size >= bounds.low) & (size <= 1 + ROUNDING_ALLOWANCE)
        return octave.masked_fill(inside, OCTAVES)

    def units(self, coder: "RowGatedNode", v: Tensor) -> Tensor:
        """2^-k for rows of potentials `v`, [..., C] to [..., 1]; NaN where one of them is infinite or NaN."""
        size = self._relative_size(coder, v)
        return _powers(size, -1)[self.of(coder, v)] + (size - size)

    @staticmethod
    def _relative_size(coder: "RowGatedNode", v: Tensor) -> Tensor:
        """The largest magnitude of each row, in units of the outermost threshold."""
        magnitude, limit = v.abs(), coder.limit(v)
        return (magnitude / limit).amax(-1, True) if limit.dim() else magnitude.amax(-1, True) / limit


class CentredOctaves(RowOctaves):
    """Octave gates of the values that a norm divides by their size: its spikes are those of octave 0 for every row.

    So what follows (squares, 1/√·, its code) works in the calibrated range; only ε must follow the row (`shifted`).

    Args:
        scale: codes 1/√(mean(x²) + ε).
        epsilon: ε.
    """

    restores = False

    def __init__(self, scale: "RowGatedNode", epsilon: float) -> None:
        self.scale = scale
        self.epsilon = epsilon

    def bounds(self, limit: Tensor, channels: int) -> Bounds:
        """Rows of octave 0 are neither beyond `limit` nor smaller than any that calibration has seen.

        The others are brought to where neither their own code nor that of the scale saturates, whatever their shape:
        their root mean square lies between 1 and 1/√C of their largest magnitude.
        """
        with fetched((self.scale,)):
            largest_scale = self.scale.limit(limit).amax().to(limit.device)
        limit = limit.amin()  # of channels: sizes are in units of each channel's own
        least = 1 / largest_scale
        low = (least * least - self.epsilon).clamp(min=0.0).sqrt() * (1 - ROUNDING_ALLOWANCE) / limit
        target = (2 * math.sqrt(channels) / (limit * largest_scale)).clamp(max=1.0)
        return Bounds(low, target, math.sqrt(self.epsilon) / limit)

    def shifted(self, coder: "RowGatedNode", v: Tensor) -> Tensor:
        """ε·4^-k for rows of centred values `v`, [..., C] to [..., 1]: what is added to the mean of shifted squares."""
        working = v.detach().to(torch.promote_types(v.dtype, torch.float32))
        return (_powers(working, -1).square()[self.of(coder, working)] * self.epsilon).to(v.dtype)


class RowGatedNode(WindowNode):
    """A neuron whose rows [..., C] may have octave gates; without them it is a `WindowNode`.

    Counts, recorders and membranes are those of the open population, in its own units: shifted potentials.

    Attributes:
        octaves: the gates, or None.
    """

    octaves: RowOctaves | None = None

    def limit(self, v: Tensor) -> Tensor:
        """The largest |v| in range, broadcastable to `v`."""
        raise NotImplementedError

    def single_step_forward(self, x: Tensor, fan_out: FanOut | None = None) -> Tensor:
        """As of `WindowNode`, by the open population of each row."""
        units = self._units(x)
        if units is None:
            return super().single_step_forward(x, fan_out)
        return self._restored(super().single_step_forward(x.to(units.dtype) * units, fan_out), units).to(x.dtype)

    def multi_step_forward(self, x_seq: Tensor, fan_out: FanOut | None = None) -> Tensor:
        """As of `WindowNode`, by the open population of each row."""
        v = self._membrane(x_seq)
        units = None if v is None else self._units(v)
        if v is None or units is None:
            return super().multi_step_forward(x_seq, fan_out)
        train = super().multi_step_forward((v * units).unsqueeze(0), fan_out)
        return self._restored(train, units).to(x_seq.dtype)

    def expected_train(self, x_seq: Tensor) -> Tensor:
        """As of `WindowNode`, by the open population of each row."""
        v = self._membrane(x_seq)
        units = None if v is None else self._units(v)
        if v is None or units is None:
            return super().expected_train(x_seq)
        return self._restored(super().expected_train((v * units).unsqueeze(0)), units).to(x_seq.dtype)

    def _membrane(self, x_seq: Tensor) -> Tensor | None:
        """The potential that opens the gates; None where there are none."""
        if self.octaves is None or self.bypass or x_seq.numel() == 0:
            return None
        return x_seq.sum(0, dtype=torch.promote_types(x_seq.dtype, torch.float32))

    def _units(self, v: Tensor) -> Tensor | None:
        """2^-k for each row; None where all are in octave 0, as far as that is known without waiting for a device."""
        if self.octaves is None or self.bypass or v.numel() == 0:
            return None
        with torch.no_grad():
            units = self.octaves.units(self, v.detach().to(torch.promote_types(v.dtype, torch.float32)))
        if v.device.type == "cpu" and not watching.is_traced(v) and bool((units == 1).all()):
            return None
        return units

    def _restored(self, emitted: Tensor, units: Tensor) -> Tensor:
        assert self.octaves is not None
        return emitted / units if self.octaves.restores else emitted


def _powers(like: Tensor, sign: int) -> Tensor:
    """2^(sign·k) for k = −`OCTAVES` … `OCTAVES`, of the type of `like`; made of bits, where `like` is."""
    integer, mantissa_bits, exponent_bias = LAYOUT[like.dtype]
    exponents = sign * torch.arange(-OCTAVES, OCTAVES + 1, dtype=integer, device=like.device)
    return ((exponents + exponent_bias) << mantissa_bits).view(like.dtype)
