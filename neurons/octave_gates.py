"""The sub-neurons of a power law or a logarithm: those of one period of octaves serve every other."""

import math
from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor

from las_sj.neurons.fitting import SHIFT, fit_octaves
from las_sj.neurons.functions import OctaveFunction
from las_sj.neurons.kernels.structures import Gates
from las_sj.neurons.look_up import Selected, look_up

LAYOUT = {torch.float32: (torch.int32, 23, 127), torch.float64: (torch.int64, 52, 1023)}  # digits, bias
OCTAVES = 40  # least number of octaves that the range covers


class OctaveGates:
    """Which sub-neuron of an `OctaveFunction` is open, and its line.

    Methods take the node's `tables` by name, which move between devices with it.

    Args:
        function: the function.
        time_steps: T.
        tolerance: error of a chord, relative to the function; absolute of a logarithm.
        lines: that may be stored; None: as many as the tolerance asks for.

    Attributes:
        fit: the sub-neurons of one period.
        low, high: the range of inputs; of their magnitudes where the function is even.
        bound, relative_bound: proven bounds of the error within the range (absolute, relative to f).
        sub_neurons: M.
        stored_lines: those of one period, which serve all others, shifted by binary digits, and both signs; those of
            a logarithm have a multiple of its step added in place of the shift.
    """

    def __init__(self, function: OctaveFunction, time_steps: int, tolerance: float, lines: int | None = None) -> None:
        self.function = function
        self.time_steps = time_steps
        self.tolerance = tolerance
        self.lines = lines
        self.fit = fit_octaves(function.name, time_steps, tolerance, lines)
        self.stored_lines = self.fit.stored
        self.set_range(None, None)

    def tables(self) -> dict[str, Tensor]:
        """The tables, by name, in the order in which checkpoints hold them; shared, not to be changed."""
        return _tables_of(self.function.name, self.time_steps, self.tolerance, self.lines)

    def set_range(self, low: float | None, high: float | None) -> None:
        """Set the range of inputs, in whole octaves; 40 of them around 1 for None.

        Raises:
            ValueError: an end is negative.
        """
        if min(low or 0.0, high or 0.0) < 0:
            raise ValueError(f"low and high must not be negative for {self.function.name}, got {low!r} and {high!r}")
        top = math.ceil(math.log2(high)) if high else OCTAVES // 2
        top = min(max(top, OCTAVES - 60), 63)  # `_lines` knows 2^-60 … 2^63
        bottom = max(min(math.floor(math.log2(low)) if low else top - OCTAVES, top - OCTAVES), -60)
        self.low, self.high = 2.0**bottom, 2.0**top
        self.relative_bound = float(self.fit.lines.relative_bound.max())
        ends = torch.tensor([self.low, self.high], dtype=torch.float64)
        largest = float(self.function.exact(ends).max())
        self.bound = float(self.fit.lines.bound.max()) if self.function.step else self.relative_bound * largest
        self.sub_neurons = (top - bottom) * self.fit.per_octave * (2 if self.function.even else 1)

    def ends(self) -> tuple[float, float]:
        """Between which inputs lie in range."""
        return (-self.high, self.high) if self.function.even else (self.low, self.high)

    def describe(self, gates: Gates, addresses: list[int]) -> None:
        """Write periods, gains and steps to the structure for the kernels."""
        gates.bias, gates.amplitude = addresses
        gates.per_octave_bits = (self.fit.per_octave - 1).bit_length()
        gates.period, gates.gain, gates.even = self.function.period, self.function.gain, self.function.even
        gates.octave_shift, gates.octave_step = SHIFT, self.function.step

    def select(self, v: Tensor, tables: Mapping[str, Tensor], lowest: float, highest: float) -> Selected:
        """The open sub-neuron of each element of `v`: coded share, bias, amplitude. The extremes do not matter here."""
        return self._lines(v, tables)[:3]

    def slope(self, v: Tensor, tables: Mapping[str, Tensor]) -> Tensor:
        """The slope of the open sub-neuron of each element, [...]."""
        slope = self._lines(v.detach(), tables)[3]
        return torch.where(v < 0, -slope, slope) if self.function.even else slope

    def _lines(self, v: Tensor, tables: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Coded share, bias, amplitude and slope of the open sub-neuron, from the bits of each number."""
        integer, mantissa_bits, exponent_bias = LAYOUT[v.dtype]
        function, per_octave = self.function, self.fit.per_octave
        x = v.abs() if function.even else v
        x = x.clamp(2.0**-60, 2.0**63)
        shift = mantissa_bits - (per_octave - 1).bit_length()
        # The shift in units of the last place, less one: a sub-range contains its upper end.
        shift_ulps = int(SHIFT * (1 << max(shift - self.time_steps, 0)))
        below = x.view(integer) + (shift_ulps - 1)
        start = ((below >> shift) << shift).view(x.dtype)
        exponent = (below >> mantissa_bits) - exponent_bias
        period = exponent >> (function.period - 1)  # periods are one or two octaves
        sub_neuron = ((below >> shift) & (per_octave - 1)) + (exponent - period * function.period) * per_octave
        unit = ((exponent_bias - exponent) << mantissa_bits).view(x.dtype)  # 2^-exponent
        share = (x - start).mul_(unit).mul_(per_octave)
        if shift_ulps:
            share += SHIFT * 2.0**-self.time_steps
        scale = ((exponent_bias + function.gain * period) << mantissa_bits).view(x.dtype)
        sub_neuron = sub_neuron.long()
        bias = look_up(tables["bias"], sub_neuron, v).mul_(scale)
        if function.step:
            bias += period.to(v.dtype) * function.step
        amplitude = look_up(tables["amplitude"], sub_neuron, v).mul_(scale)
        slope = amplitude * unit * per_octave
        return share.clamp_(0, 1), bias, amplitude, slope


@lru_cache(maxsize=64)
def _tables_of(name: str, time_steps: int, tolerance: float, most_lines: int | None) -> dict[str, Tensor]:
    lines = fit_octaves(name, time_steps, tolerance, most_lines).lines
    return {"bias": lines.bias.float(), "amplitude": lines.amplitude.float()}
