"""The hierarchically gated neuron: a unary non-linearity by gated few-spikes sub-neurons."""

import math
from collections.abc import Callable, Iterator, Mapping
from ctypes import Structure

import torch
from torch import Tensor

from las_sj.neurons import watching
from las_sj.neurons.counting import count_ones
from las_sj.neurons.counts import WindowCounts
from las_sj.neurons.functions import FUNCTIONS, GridFunction
from las_sj.neurons.gated import Gated
from las_sj.neurons.grid_gates import GridGates
from las_sj.neurons.kernels.structures import Gates
from las_sj.neurons.line_budget import LEAST_LINES, MOST_LINES, is_number_of_lines
from las_sj.neurons.look_up import Selected
from las_sj.neurons.octave_gates import OctaveGates
from las_sj.neurons.seen_values import SeenValues
from las_sj.neurons.soundness import MOST, faults_of_tables
from las_sj.neurons.surrogate import SlopeOfSubNeuron
from las_sj.neurons.window import WindowNode

_FINEST = 1e-7  # tolerance


class HGNode(Gated, WindowNode):
    """HG(x) = Σ_m g_m(x)·FS_m(x), with g_m(x) = 1 where a_m < x ≤ a_{m+1} (LAS, arXiv 2505.09659).

    FS_m codes r = x − a_m in binary, θ(t) = h(t) = Δ_m·2^-t, with output weights d(t) = slope_m·θ(t) and a bias
    that it emits at the first step. See `neurons.fitting` for the fit and its bound.
    Step mode "s": [B, ...] to [B, ...]; "m": [T_in, B, ...] to [T, B, ...].

    Args:
        function: a key of `neurons.functions.FUNCTIONS`.
        time_steps: T, 1 … 24.
        low, high: the range of inputs seen in calibration, with headroom. Inputs outside are counted in
            `out_of_range`; the neuron extrapolates along the function's tails (gelu, silu: 0 and identity;
            tanh: ±1; exp: 0 below) or, for powers and logarithms, with further octaves; sin and cos hold the ends'.
        tolerance: error of a chord, absolute, or relative for exp and powers.
        step_mode: "s" or "m".
        backend: "auto", "torch", "host" or "cupy".
        lines: that the population may store, 8 … 1024, the tolerance being met where they suffice; None: as many as
            it asks for. Break points are then those of the least error over the range, which does not have to contain
            the function's core, and exp shares the lines of an octave of its values.

    Attributes:
        gates: which sub-neuron is open, and its line.
        refines: whether calibration makes an absolute tolerance finer where all inputs are small.

    Raises:
        ValueError: an unknown function, or a setting out of its range.
    """

    refines = False

    def __init__(
        self,
        function: str,
        time_steps: int,
        low: float | None = None,
        high: float | None = None,
        tolerance: float = 1e-5,
        step_mode: str = "s",
        backend: str = "auto",
        lines: int | None = None,
    ) -> None:
        super().__init__(time_steps, step_mode, backend)
        if function not in FUNCTIONS:
            raise ValueError(f"function must be one of {', '.join(FUNCTIONS)}, got {function!r}")
        if time_steps > 24:
            raise ValueError(f"time_steps must be an integer in 1…24, got {time_steps!r}")
        if not _FINEST <= tolerance <= 0.1:
            raise ValueError(f"tolerance must lie in 1e-7…0.1, got {tolerance!r}")
        if lines is not None and not is_number_of_lines(lines):
            raise ValueError(f"lines must be an integer in {LEAST_LINES}…{MOST_LINES} or None, got {lines!r}")
        self.function = FUNCTIONS[function]
        self.lines = lines
        self.tolerance = self._coarsest = tolerance
        with torch.device("cpu"):  # also while a model is created on the meta device
            if isinstance(self.function, GridFunction):
                self.gates = GridGates(self.function, time_steps, tolerance, lines)
            else:
                self.gates = OctaveGates(self.function, time_steps, tolerance, lines)
            tables = self.gates.tables()
        self._table_names = tuple(tables)
        for name, table in tables.items():
            self.register_buffer(name, table.clone())
        self.set_range(low, high)

    def set_range(self, low: float | None, high: float | None) -> None:
        """Set the range of inputs; None keeps the function's core, or 40 octaves around 1.

        Tables with a limit of lines are fitted anew.
        """
        self._set_ends(low, high)
        if self.lines is not None:
            self._take_tables(self.gates.tables())
        ends = f"{self.low} {self.high}"  # made here: compilers take the numbers for ones that change
        limit = "" if self.lines is None else f" {self.lines}"
        kind = "hg-within" if limit else "hg"
        self._signature = f"{kind} {self.time_steps} {ends} {self.tolerance}{limit} {self.function.name}"

    def refit(self, tolerance: float) -> None:
        """Fit the sub-neurons anew, to another tolerance, for the range of a new neuron."""
        self._fit(tolerance, self.lines)
        self.set_range(None, None)

    def limit(self, lines: int | None) -> None:
        """Fit the sub-neurons anew for the same range, with another limit of lines.

        A range without a limit contains the function's core, and stays so: set the range if it should not.
        """
        low, high = self.low, self.high
        self._fit(self.tolerance, lines)
        self.set_range(low, high)

    def _fit(self, tolerance: float, lines: int | None) -> None:
        fresh = HGNode(self.function.name, self.time_steps, tolerance=tolerance, lines=lines)
        self.tolerance, self.lines, self.gates = tolerance, lines, fresh.gates
        self._take_tables(fresh._tables())

    def _take_tables(self, tables: Mapping[str, Tensor]) -> None:
        """Have copies of these tables where, and in the precision in which, its own are."""
        for name, table in tables.items():
            own = getattr(self, name)
            setattr(self, name, table.to(own.device, own.dtype, copy=True))

    def cover(self, low: float, high: float, headroom: float) -> None:
        """Set the range for inputs from `low` to `high`; the function knows how it grows with headroom."""
        ends = self.function.range_for(low, high, headroom)
        self.set_range(*(None if end is None else min(max(end, -MOST), MOST) for end in ends))

    def calibrate(self, seen: SeenValues, headroom: float, upper_bound: float | None = None) -> None:
        """Cover the values that calibration has seen, if there were any; small ones more finely where it `refines`."""
        if seen.nothing:
            return
        if self.refines and isinstance(self.function, GridFunction) and not self.function.relative:
            self.refit(_finer(self._coarsest, seen.largest))
        self.cover(seen.low, seen.high, headroom)

    def kernel_tables(self, x: Tensor) -> list[Tensor] | None:
        """The tables of the fit."""
        return list(self._tables().values())

    @property
    def operands(self) -> list[Tensor]:
        """The tables of the fit."""
        return list(self._tables().values())

    @property
    def signature(self) -> str | None:
        """Function, time steps, range, tolerance, limit of lines; none of a subclass, which may do something else."""
        return self._signature if type(self) is HGNode else None

    def _tables(self) -> dict[str, Tensor]:
        own = watching.buffers_of(self)
        return {name: own[name] for name in self._table_names}  # type: ignore[misc]

    def faults(self, *, of_layout: bool = False) -> Iterator[tuple[str, str]]:
        """Tables that are not those of the fit, which follow from its settings."""
        return faults_of_tables(self._tables(), self.gates.tables(), of_layout=of_layout)

    def describe(self, tables: list[Tensor], channels: int) -> Structure:
        """Tables, range and tails, for the kernels."""
        gates = Gates(time_steps=self.time_steps, low=self.low, high=self.high)
        self.gates.describe(gates, [table.data_ptr() for table in tables])
        return gates

    def kernel_settings(self, x: Tensor) -> tuple[float, ...]:
        """The range."""
        gates = self.gates
        return gates.low, gates.high

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

    def _select(self, v: Tensor, counts: WindowCounts) -> Selected:
        """The open sub-neuron of each element: coded share of its width, bias, amplitude, each [...]; counts."""
        v = v.detach()
        lowest, highest = _extremes(v)
        counts.out_of_range += self._count_outside(v, lowest, highest)
        return self.gates.select(v, self._tables(), lowest, highest)

    @torch.no_grad()
    def _slope(self, v: Tensor) -> Tensor:
        return self.gates.slope(v, self._tables())

    def spikes_of(self, v: Tensor) -> Tensor:
        """The spikes of the open sub-neurons for `v` ([B, ...]), 0 or 1, int16 [T, B, ...]."""
        by_kernel = self.population.spikes_by_kernel(v)
        if by_kernel is not None:
            return by_kernel
        if v.numel() == 0:
            return v.new_zeros((self.time_steps, *v.shape), dtype=torch.int16)
        working = v.detach().to(torch.promote_types(v.dtype, torch.float32)).reshape(-1)
        share = self.gates.select(working, self._tables(), *_extremes(working))[0]
        digits = self._digits(share).nan_to_num_(0.0).to(torch.int32)
        steps = [(digits >> (self.time_steps - t)) & 1 for t in range(1, self.time_steps + 1)]
        return torch.stack(steps).view(self.time_steps, *v.shape).to(torch.int16)

    def spike_scale(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Amplitude α of the open sub-neuron of each element of `v` ([B, ...]), and its bias."""
        working = v.detach().to(torch.promote_types(v.dtype, torch.float32))
        _, bias, amplitude = self.gates.select(working, self._tables(), *_extremes(working))
        return amplitude, bias

    def _digits(self, share: Tensor) -> Tensor:
        """The train of a coded share as one whole number, its first step the highest of T binary digits."""
        return (share * 2.0**self.time_steps).floor_().clamp_(max=2.0**self.time_steps - 1)

    @property
    def extends(self) -> bool:
        """Powers and logarithms go on with further octaves, of the same error; what is flat stays so."""
        return isinstance(self.gates, OctaveGates) or not self.gates.is_watched

    @property
    def inside(self) -> float:
        """The middle of the range."""
        return (self.low + self.high) / 2

    def count_out_of_range(self, v: Tensor) -> int:
        """How many of the inputs `v` ([B, ...]) lie beyond the range, in a direction where the function is not flat."""
        if v.numel() == 0:
            return 0
        return self._count_outside(v, *_extremes(v))

    def _count_outside(self, v: Tensor, lowest: float, highest: float) -> int:
        """`count_out_of_range`, given the extremes of `v`."""
        low, high = self.gates.ends()
        if low <= lowest and highest <= high:
            return 0
        return int(((v < low) | (v > high)).sum())

    def extra_repr(self) -> str:
        """Function, sub-neurons and range."""
        return (
            f"{self.function.name}, {super().extra_repr()}, sub_neurons={self.sub_neurons}, "
            f"lines={self.stored_lines}, range=({self.low:g}, {self.high:g})"
        )


def _extremes(v: Tensor) -> tuple[float, float]:
    lowest, highest = torch.aminmax(v)
    return float(lowest), float(highest)


def _finer(tolerance: float, largest: float) -> float:
    """An eighth of a tolerance for inputs below 1, another eighth for each eighth that they lie lower."""
    eighths = -math.floor(math.log2(min(max(largest, 2.0**-60), 1.0)) / 3)
    return max(tolerance / 8.0**eighths, min(tolerance, _FINEST))
