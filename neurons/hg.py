"""The hierarchically gated neuron: a unary non-linearity by gated few-spikes sub-neurons."""

import math
from collections.abc import Callable
from ctypes import Structure

import torch
from torch import Tensor

from las_sj.neurons.counting import count_ones
from las_sj.neurons.counts import WindowCounts
from las_sj.neurons.fitting import SHIFT, GridFit, OctaveFit, fit_grid, fit_octaves, tail_bound, tail_width
from las_sj.neurons.functions import FUNCTIONS, GridFunction, OctaveFunction, Tail
from las_sj.neurons.kernels.structures import FLAT, HELD, SLOPED, Gates
from las_sj.neurons.seen_values import SeenValues
from las_sj.neurons.surrogate import SlopeOfSubNeuron
from las_sj.neurons.window import WindowNode

_LAYOUT = {torch.float32: (torch.int32, 23, 127), torch.float64: (torch.int64, 52, 1023)}
_ROUNDING_ALLOWANCE = 1e-3  # of inputs just above 0 in exp
OCTAVES = 40  # least number of octaves that an octave function's range covers


class HGNode(WindowNode):
    """HG(x) = Σ_m g_m(x)·FS_m(x), with g_m(x) = 1 where a_m < x ≤ a_{m+1} (LAS, arXiv 2505.09659).

    FS_m codes r = x − a_m in binary, θ(t) = h(t) = Δ_m·2^-t, with output weights d(t) = slope_m·θ(t) and a bias
    that it emits at the first step. See `neurons.fitting` for the fit and its bound.
    Step mode "s": [B, ...] to [B, ...]; "m": [T_in, B, ...] to [T, B, ...].

    Args:
        function: a key of `neurons.functions.FUNCTIONS`.
        time_steps: T, 1 … 24.
        low, high: the range of inputs seen in calibration, with headroom. Inputs outside are counted in
            `out_of_range`; the neuron extrapolates along the function's tails (gelu, silu: 0 and identity;
            tanh: ±1; exp: 0 below) or, for powers, with further octaves.
        tolerance: error of a chord, absolute, or relative for exp and powers.
        step_mode: "s" or "m".
        backend: "auto", "torch", "host" or "cupy".

    Attributes:
        bound, relative_bound: proven bounds of the error within the range (absolute, relative to f).
        sub_neurons: M.

    Raises:
        ValueError: an unknown function, or a setting out of its range.
    """

    def __init__(
        self,
        function: str,
        time_steps: int,
        low: float | None = None,
        high: float | None = None,
        tolerance: float = 1e-5,
        step_mode: str = "s",
        backend: str = "auto",
    ) -> None:
        super().__init__(time_steps, step_mode, backend)
        if function not in FUNCTIONS:
            raise ValueError(f"function must be one of {', '.join(FUNCTIONS)}, got {function!r}")
        if time_steps > 24:
            raise ValueError(f"time_steps must be an integer in 1…24, got {time_steps!r}")
        if not 1e-7 <= tolerance <= 0.1:
            raise ValueError(f"tolerance must lie in 1e-7…0.1, got {tolerance!r}")
        self.function = FUNCTIONS[function]
        self.tolerance = tolerance
        with torch.device("cpu"):
            self._register_tables()
        self.set_range(low, high)

    def set_range(self, low: float | None, high: float | None) -> None:
        """Set the range of inputs; None keeps the function's core, or 40 octaves around 1."""
        for name, value in (("low", low), ("high", high)):
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} must be finite, got {value!r}")
        with torch.device("cpu"):  # also while a model is created on the meta device
            if isinstance(self.function, GridFunction):
                self._set_grid_range(self.function, low, high)
            else:
                self._set_octaves(self.function, low, high)

    def cover(self, low: float, high: float, headroom: float) -> None:
        """Set the range for inputs from `low` to `high`; the function knows how it grows with headroom."""
        self.set_range(*self.function.range_for(low, high, headroom))

    def calibrate(self, seen: SeenValues, headroom: float, upper_bound: float | None = None) -> None:
        """Cover the values that calibration has seen, if there were any."""
        if not seen.nothing:
            self.cover(seen.low, seen.high, headroom)

    def _set_grid_range(self, function: GridFunction, low: float | None, high: float | None) -> None:
        assert isinstance(self._fit, GridFit)
        core_low, core_high = function.core
        self.low = core_low if low is None else min(core_low, low)
        self.high = core_high if high is None or function.above is None else max(core_high, high)
        tails = ((function.below, core_low - self.low, -self.low), (function.above, self.high - core_high, self.high))
        reach = max((end for tail, _, end in tails if tail is not None and tail.slope), default=1.0)
        self.tail_width = tail_width(self.time_steps, self.tolerance, reach)
        lines = self._fit.lines
        self.bound = max(float(lines.bound.max()), tail_bound(function, self.tail_width, self.time_steps, reach))
        self.relative_bound = float(lines.relative_bound.max()) if function.relative else math.inf
        self.sub_neurons = len(lines.start)
        for tail, length, _ in tails:
            if tail is not None:
                self.sub_neurons += max(1, math.ceil(length / self.tail_width)) if tail.slope else 1

    def _set_octaves(self, function: OctaveFunction, low: float | None, high: float | None) -> None:
        assert isinstance(self._fit, OctaveFit)
        if min(low or 0.0, high or 0.0) < 0:
            raise ValueError(f"low and high must not be negative for {function.name}, got {low!r} and {high!r}")
        top = math.ceil(math.log2(high)) if high else OCTAVES // 2
        top = min(max(top, OCTAVES - 60), 63)  # `_select_octave` knows 2^-60 … 2^63
        bottom = max(min(math.floor(math.log2(low)) if low else top - OCTAVES, top - OCTAVES), -60)
        self.low, self.high = 2.0**bottom, 2.0**top
        self.relative_bound = float(self._fit.lines.relative_bound.max())
        ends = torch.tensor([self.low, self.high], dtype=torch.float64)
        self.bound = self.relative_bound * float(function.exact(ends).max())
        self.sub_neurons = (top - bottom) * self._fit.per_octave * (2 if function.even else 1)

    def _register_tables(self) -> None:
        name = self.function.name
        self._fit: GridFit | OctaveFit
        if isinstance(self.function, GridFunction):
            self._fit = fit = fit_grid(name, self.time_steps, self.tolerance)
            self._shift = float(fit.lines.shift[0])
            self.register_buffer("cells", fit.cells.clone())
            self.register_buffer("start", fit.lines.start.float())
            self.register_buffer("inverse_width", (1 / fit.lines.width).float())
        else:
            self._fit = fit_octaves(name, self.time_steps, self.tolerance)
        self.register_buffer("bias", self._fit.lines.bias.float())
        self.register_buffer("amplitude", self._fit.lines.amplitude.float())

    def kernel_tables(self, x: Tensor) -> list[Tensor] | None:
        """The tables of the fit."""
        of_grid = [self.start, self.inverse_width, self.cells] if isinstance(self.function, GridFunction) else []
        return [self.bias, self.amplitude, *of_grid]

    def kernel_settings(self, x: Tensor) -> tuple[float, ...]:
        """The range."""
        return self.low, self.high

    def describe(self, tables: list[Tensor], channels: int) -> Structure:
        """Tables, range and tails, for the kernels."""
        gates = Gates(time_steps=self.time_steps, low=self.low, high=self.high)
        addresses = [table.data_ptr() for table in tables]
        gates.bias, gates.amplitude = addresses[:2]
        if isinstance(self.function, GridFunction):
            gates.start, gates.inverse_width, gates.cells = addresses[2:]
            self._describe_grid(gates, self.function)
        else:
            self._describe_octaves(gates, self.function)
        return gates

    def _describe_grid(self, gates: Gates, function: GridFunction) -> None:
        assert isinstance(self._fit, GridFit)
        gates.is_grid = True
        gates.cell_count = len(self.cells)
        gates.shift, (gates.core_low, gates.core_high) = self._shift, function.core
        gates.inverse_cell = 1 / self._fit.cell_width
        gates.first_cell = 1 + function.core[0] / self._fit.cell_width
        for side, tail in (("below", function.below), ("above", function.above)):
            setattr(gates, side, HELD if tail is None else SLOPED if tail.slope else FLAT)
            if tail is not None:
                setattr(gates, f"{side}_intercept", tail.intercept)
                setattr(gates, f"{side}_slope", tail.slope)
        gates.tail_width = self.tail_width

    def _describe_octaves(self, gates: Gates, function: OctaveFunction) -> None:
        assert isinstance(self._fit, OctaveFit)
        gates.per_octave_bits = (self._fit.per_octave - 1).bit_length()
        gates.period, gates.gain, gates.even = function.period, function.gain, function.even
        gates.octave_shift = SHIFT

    def exact(self, v: Tensor) -> Tensor:
        """The function itself at `v`."""
        return self.function.exact(v)

    def with_gradient(self, v: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """encode(v), with the slope of the open sub-neuron as the gradient."""
        return SlopeOfSubNeuron.apply(v, self._slope(v), encode)

    def write_sum(self, v: Tensor, total: Tensor, counts: WindowCounts) -> None:
        """Write the value of the open sub-neuron's line at the coded `v` ([...]) to `total`, of its shape."""
        share, bias, amplitude = self._select(v, counts)
        code = self._digits(share)
        if counts.counts_spikes:
            counts.add_counts(count_ones(code.nan_to_num(0.0).to(torch.int32), self.time_steps))
        # Not addcmul, which rounds once where it can: kernels round the product too.
        torch.add(bias, code.mul_(2.0**-self.time_steps).mul_(amplitude), out=total)

    def write_train(self, v: Tensor, train: Tensor, counts: WindowCounts) -> None:
        """Write the open sub-neuron's train for `v` ([...]) to `train`, [T, ...].

        It spells the binary digits of the membrane potential in units of the sub-neuron's width, largest first.
        """
        share, bias, amplitude = self._select(v, counts)
        spike = torch.empty_like(share)
        not_a_number = share - share  # 0, or NaN, which reaches no threshold
        for t in range(1, self.time_steps + 1):
            torch.ge(share, 2.0**-t, out=spike)
            share.sub_(spike, alpha=2.0**-t)
            if counts.counts_spikes:
                counts.add_fired(spike)
            torch.where(spike > 0, amplitude.mul_(0.5), amplitude.new_zeros(()), out=train[t - 1])
        train[0] += bias.add_(not_a_number)

    def _select(self, v: Tensor, counts: WindowCounts) -> tuple[Tensor, Tensor, Tensor]:
        """The open sub-neuron of each element: coded share of its width, bias, amplitude, each [...]; counts."""
        v = v.detach()
        lowest, highest = (float(extreme) for extreme in torch.aminmax(v))
        counts.out_of_range += self._count_beyond(v, lowest, highest)
        return self._select_between(v, lowest, highest)

    def _select_between(self, v: Tensor, lowest: float, highest: float) -> tuple[Tensor, Tensor, Tensor]:
        """`_select`, given the extremes of `v`."""
        if isinstance(self.function, GridFunction):
            return self._select_on_grid(v, self.function, lowest, highest)
        return self._select_octave(v, self.function)[:3]

    def spikes_of(self, v: Tensor) -> Tensor:
        """The spikes of the open sub-neurons for `v` ([B, ...]), 0 or 1, int16 [T, B, ...]."""
        by_kernel = self.population.spikes_by_kernel(v)
        if by_kernel is not None:
            return by_kernel
        if v.numel() == 0:
            return v.new_zeros((self.time_steps, *v.shape), dtype=torch.int16)
        working = v.detach().to(torch.promote_types(v.dtype, torch.float32)).reshape(-1)
        share = self._select_between(working, *(float(extreme) for extreme in torch.aminmax(working)))[0]
        digits = self._digits(share).nan_to_num_(0.0).to(torch.int32)
        steps = [(digits >> (self.time_steps - t)) & 1 for t in range(1, self.time_steps + 1)]
        return torch.stack(steps).view(self.time_steps, *v.shape).to(torch.int16)

    def spike_scale(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Amplitude α of the open sub-neuron of each element of `v` ([B, ...]), and its bias."""
        working = v.detach().to(torch.promote_types(v.dtype, torch.float32))
        _, bias, amplitude = self._select_between(working, *(float(extreme) for extreme in torch.aminmax(working)))
        return amplitude, bias

    def _digits(self, share: Tensor) -> Tensor:
        """The train of a coded share as one whole number, its first step the highest of T binary digits."""
        return (share * 2.0**self.time_steps).floor_().clamp_(max=2.0**self.time_steps - 1)

    @torch.no_grad()
    def _slope(self, v: Tensor) -> Tensor:
        """The slope of the open sub-neuron of each element, [...]."""
        if isinstance(self.function, OctaveFunction):
            slope = self._select_octave(v.detach(), self.function)[3]
            return torch.where(v < 0, -slope, slope) if self.function.even else slope
        core_low, core_high = self.function.core
        sub_neuron = self._sub_neuron_on_grid(v + self._shift)
        slope = _look_up(self.amplitude, sub_neuron, v) * _look_up(self.inverse_width, sub_neuron, v)
        if self.function.above is None:
            core_high += _ROUNDING_ALLOWANCE  # in a temporal run the maximum of softmax is 0 up to rounding
        for tail, outside in ((self.function.below, v < core_low), (self.function.above, v > core_high)):
            slope = slope.masked_fill(outside, tail.slope if tail is not None else 0.0)
        return slope

    def _sub_neuron_on_grid(self, inside: Tensor) -> Tensor:
        assert isinstance(self._fit, GridFit)
        assert isinstance(self.function, GridFunction)
        cell_width = self._fit.cell_width
        cell = (inside * (1 / cell_width)).ceil_().sub_(1 + self.function.core[0] / cell_width).long()
        return _look_up(self.cells, cell.clamp_(0, len(self.cells) - 1), inside).long()

    def _select_on_grid(
        self, v: Tensor, function: GridFunction, lowest: float, highest: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        core_low, core_high = function.core
        inside = (v + self._shift).clamp_(core_low, core_high)
        sub_neuron = self._sub_neuron_on_grid(inside)
        share = inside.sub_(_look_up(self.start, sub_neuron, v)).mul_(_look_up(self.inverse_width, sub_neuron, v))
        bias, amplitude = _look_up(self.bias, sub_neuron, v), _look_up(self.amplitude, sub_neuron, v)
        share.clamp_(0, 1)
        selected = (share, bias, amplitude)
        if not lowest >= core_low and function.below is not None:
            self._select_tail(v, function.below, v < core_low, selected)
        if not highest <= core_high and function.above is not None:
            self._select_tail(v, function.above, v > core_high, selected)
        return selected

    def _select_tail(self, v: Tensor, tail: Tail, outside: Tensor, selected: tuple[Tensor, Tensor, Tensor]) -> None:
        """Overwrite `selected` where `outside`."""
        share, bias, amplitude = selected
        if not tail.slope:
            inside = (~outside).to(bias.dtype)  # 0 or 1: faster than masked_fill_
            for part in selected:
                part.mul_(inside)
            if tail.intercept:
                bias.add_(1 - inside, alpha=tail.intercept)
            return
        x = v[outside]
        width = self.tail_width
        start = ((x / width).ceil() - 1) * width
        share[outside] = torch.where(torch.isinf(x), 0.0, (x - start) / width)
        half_step = width * 2.0 ** -(self.time_steps + 1)
        bias[outside] = tail.intercept + tail.slope * (start + half_step)
        amplitude[outside] = tail.slope * width

    def _select_octave(self, v: Tensor, function: OctaveFunction) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        assert isinstance(self._fit, OctaveFit)
        integer, mantissa_bits, exponent_bias = _LAYOUT[v.dtype]
        x = v.abs() if function.even else v
        x = x.clamp(2.0**-60, 2.0**63)
        per_octave = self._fit.per_octave
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
        bias = _look_up(self.bias, sub_neuron, v).mul_(scale)
        amplitude = _look_up(self.amplitude, sub_neuron, v).mul_(scale)
        slope = amplitude * unit * per_octave
        return share.clamp_(0, 1), bias, amplitude, slope

    def count_out_of_range(self, v: Tensor) -> int:
        """How many of the inputs `v` ([B, ...]) lie beyond the range, in a direction where the function is not flat."""
        if v.numel() == 0:
            return 0
        return self._count_beyond(v, *(float(extreme) for extreme in torch.aminmax(v)))

    def _count_beyond(self, v: Tensor, lowest: float, highest: float) -> int:
        """`count_out_of_range`, given the extremes of `v`."""
        if isinstance(self.function, GridFunction):
            below, above = self.function.below, self.function.above
            low = -math.inf if below is not None and not below.slope else self.low - _ROUNDING_ALLOWANCE
            high = math.inf if above is not None and not above.slope else self.high + _ROUNDING_ALLOWANCE
        else:
            low, high = (-self.high, self.high) if self.function.even else (self.low, self.high)
        if low <= lowest and highest <= high:
            return 0
        return int(((v < low) | (v > high)).sum())

    def extra_repr(self) -> str:
        """Function, sub-neurons and range."""
        return (
            f"{self.function.name}, {super().extra_repr()}, sub_neurons={self.sub_neurons}, "
            f"range=({self.low:g}, {self.high:g})"
        )


def _look_up(table: Tensor, index: Tensor, v: Tensor) -> Tensor:
    """`table` ([M]) at `index`, in the shape of the index; parameters in the dtype of `v`."""
    values = torch.index_select(table, 0, index.reshape(-1)).view(index.shape)
    return values.to(v.dtype) if values.is_floating_point() else values
