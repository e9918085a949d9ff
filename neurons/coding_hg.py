"""The hierarchically gated neuron whose sub-neurons emit spikes of a code: a non-linearity and its coder in one."""

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor

from las_sj.neurons import watching
from las_sj.neurons.code import MultiThresholdCode
from las_sj.neurons.fan_out import FanOut
from las_sj.neurons.functions import GridFunction, Tail
from las_sj.neurons.gated import Gated
from las_sj.neurons.hg import HGNode
from las_sj.neurons.oat import OATNode
from las_sj.neurons.population import integrated
from las_sj.neurons.precision import single
from las_sj.neurons.seen_values import SeenValues
from las_sj.neurons.soundness import MOST, faults_of_tables
from las_sj.neurons.surrogate import SlopeOfSubNeuron


class SeenThrough(SeenValues):
    """Statistics of inputs, of which the histogram and the largest magnitude are those of a function's values.

    Args:
        node: whose function it is.
    """

    def __init__(self, node: "CodingHGNode") -> None:
        super().__init__()
        self._node = node

    def add(self, v: Tensor) -> None:
        """Take the inputs of one window, [...]; errors are those of `SeenValues`."""
        if v.numel() == 0:
            return
        values = SeenValues()
        values.add(self._node.exact(v))
        low, high = (float(extreme) for extreme in torch.aminmax(v))
        self.histogram += values.histogram
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.largest = max(self.largest, values.largest)


class CodingHGNode(Gated, OATNode):
    """HG(x) = Σ_m g_m(x)·FS_m(x) as an OAT neuron emits it: one population for a function and the code of its value.

    On sub-range m the function is the line y = c·(x − a'). Sub-neuron m integrates u(1) = x − a' and is a few-spikes
    neuron with thresholds and resets θ_j(t)/c, and output weights θ_j(t) = α·2^-t·(1 + j/n). So it fires where, and
    emits what, an OAT neuron does whose membrane holds y: levelled spikes of thresholds that all sub-neurons share.
    Where c = 0 it emits the code of a constant. Thresholds and resets are table entries, so nothing is multiplied. Here
    the membrane is kept as y = c·u, in which counts, recorders and traces see it.
    Step mode "s": [B, ...] to [B, ...]; "m": [T_in, B, ...] to [T, B, ...].

    Args:
        function: a key of `neurons.functions.FUNCTIONS`.
        code: time steps (1 … 24), levels, rounding and spike limit.
        tolerance: error of a chord, absolute, or relative for exp and powers.
        outlier_aware: whether calibration gives it two base thresholds; otherwise both are one.
        lines: that may be stored for the range; None: as many as the tolerance asks for.
        step_mode: "s" or "m".
        backend: "auto", "torch", "host" or "cupy": of the code.

    Attributes:
        gates: which sub-neuron is open, and its line. Their bound is that of the line; the code's error adds to it.

    Raises:
        ValueError: an unknown function, or a setting out of its range.
    """

    def __init__(
        self,
        function: str,
        code: MultiThresholdCode,
        tolerance: float = 1e-5,
        outlier_aware: bool = True,
        lines: int | None = None,
        step_mode: str = "s",
        backend: str = "auto",
    ) -> None:
        fitted = HGNode(function, code.time_steps, tolerance=tolerance, lines=lines)
        super().__init__(1.0, 1.0, code.time_steps, code.levels, code.rounding, code.max_spikes, step_mode, backend)
        self.function, self.gates, self.tolerance = fitted.function, fitted.gates, tolerance
        self.outlier_aware, self.lines = outlier_aware, lines
        tables = self.gates.tables()
        self._table_names = tuple(tables)
        for name, table in tables.items():
            self.register_buffer(name, table.clone())

    def set_range(self, low: float | None, high: float | None) -> None:
        """Set the range of inputs; None keeps the function's core, or 40 octaves around 1.

        Tables with a limit of lines are fitted anew.

        Raises:
            ValueError: an end is not finite.
        """
        self._set_ends(low, high)
        if self.lines is not None:
            for name, table in self.gates.tables().items():
                own = getattr(self, name)
                setattr(self, name, table.to(own.device, own.dtype, copy=True))

    def statistics(self) -> SeenValues:
        """Statistics of inputs and of the function's values."""
        return SeenThrough(self)

    def calibrate(self, seen: SeenValues, headroom: float, upper_bound: float | None = None) -> None:
        """Set the thresholds for the function's values, and the range for its inputs, if there were any."""
        super().calibrate(seen, headroom, upper_bound)
        if not self.outlier_aware:
            self.theta_normal.data.copy_(self.theta_outlier.data)
        if not seen.nothing:
            ends = self.function.range_for(seen.low, seen.high, headroom)
            self.set_range(*(None if end is None else min(max(end, -MOST), MOST) for end in ends))

    @property
    def sub_neurons(self) -> int:
        """M: those of the core, and one for each line beyond it; each has the two thresholds of an OAT neuron."""
        return len(self.gates.fit.lines.start) + self._tails if self._has_core else self.gates.sub_neurons

    @property
    def stored_lines(self) -> int:
        """Lines that must be stored: sub-neurons whose parameters are those of others, shifted, need none."""
        return self.gates.fit.stored + self._tails if self._has_core else self.gates.stored_lines

    @property
    def _has_core(self) -> bool:
        return isinstance(self.function, GridFunction)

    @property
    def _tails(self) -> int:
        """Lines beyond the core of the function."""
        return sum(getattr(self.function, side, None) is not None for side in ("below", "above"))

    @property
    def signature(self) -> str | None:
        """Settings of the code, which operators run; none of a subclass, which may do something else."""
        return self._signature("oat") if type(self) is CodingHGNode else None

    def faults(self, *, of_layout: bool = False) -> Iterator[tuple[str, str]]:
        """Thresholds that nothing can be coded with, and tables that are not those of the fit."""
        tables = faults_of_tables(self._tables(), self.gates.tables(), of_layout=of_layout)
        yield from chain(super().faults(of_layout=of_layout), tables)

    def exact(self, v: Tensor) -> Tensor:
        """The function itself at `v`."""
        return self.function.exact(v)

    def single_step_forward(self, x: Tensor, fan_out: FanOut | None = None) -> Tensor:
        """Accumulated input [B, ...] to the sum of what is emitted; `fan_out` is for the recorder."""
        if self.bypass:
            return super().single_step_forward(x, fan_out)
        return super().single_step_forward(self._membrane_of(single(x)), fan_out).to(x.dtype)

    def multi_step_forward(self, x_seq: Tensor, fan_out: FanOut | None = None) -> Tensor:
        """Currents [T_in, B, ...] to the spike train [T, B, ...]; `fan_out` is for the recorder."""
        if self.bypass or x_seq.shape[0] == 0:
            return super().multi_step_forward(x_seq, fan_out)
        y = self._membrane_of(integrated(x_seq))
        return super().multi_step_forward(y.unsqueeze(0), fan_out).to(x_seq.dtype)

    def expected_train(self, x_seq: Tensor) -> Tensor:
        """The train [T, B, ...] that the neurons are defined to emit for currents [T_in, B, ...]; nobody is told."""
        return super().expected_train(self.line(integrated(x_seq)).unsqueeze(0)).to(x_seq.dtype)

    def line(self, v: Tensor) -> Tensor:
        """The value at inputs `v` ([...]) of the line of the open sub-neuron of each, not coded yet."""
        if not isinstance(self.function, GridFunction):
            return self._value(*self.gates.select(v.detach(), self._tables(), 0.0, 0.0))
        low, high = self.function.core
        y = self._value(*self.gates.select(v.detach().clamp(low, high), self._tables(), low, high))
        for tail, outside in ((self.function.below, v < low), (self.function.above, v > high)):
            if tail is not None:
                y = torch.where(outside, _on(tail, v), y)
        return y

    def _value(self, share: Tensor, bias: Tensor, amplitude: Tensor) -> Tensor:
        """The line at a share of its sub-range, which is not cut to T digits: half of the last is not made up for."""
        return share.sub_(2.0 ** -(self.time_steps + 1)).mul_(amplitude).add_(bias)

    def _membrane_of(self, v: Tensor) -> Tensor:
        """The membrane potential, in units of the output, with the slope of the open sub-neuron as its gradient."""
        self._count_held(v)
        if torch.is_grad_enabled() and v.requires_grad:
            return SlopeOfSubNeuron.apply(v, self.gates.slope(v.detach(), self._tables()), self.line)
        return self.line(v)

    def _count_held(self, v: Tensor) -> None:
        """Count inputs beyond an end that a function is held at; beyond a line or octaves only the code has an end."""
        function = self.function
        if isinstance(function, GridFunction) and function.stops:
            low, high = self.gates.ends()
            beyond = ((v < low) & (function.below is None)) | ((v > high) & (function.above is None))
            self.counts.add(0, int(beyond.sum()))

    def _tables(self) -> dict[str, Tensor]:
        own = watching.buffers_of(self)
        return {name: own[name] for name in self._table_names}  # type: ignore[misc]

    def extra_repr(self) -> str:
        """Function, code, sub-neurons and range."""
        return f"{self.function.name}, {super().extra_repr()}, range=({self.low:g}, {self.high:g})"


def _on(tail: Tail, v: Tensor) -> Tensor:
    """The line of a tail at `v`; a flat one also where `v` is infinite."""
    return tail.intercept + tail.slope * v if tail.slope else torch.full_like(v, tail.intercept)
