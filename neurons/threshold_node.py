"""What neurons that code values with thresholds α·2^-t share: MTNode, OATNode, or one of your own."""

from collections.abc import Callable, Iterator
from ctypes import Structure

import torch
from torch import Tensor, nn

from las_sj.neurons.code import MultiThresholdCode, accumulate, emit_steps, write_train
from las_sj.neurons.counting import can_look_up, count_spikes, most_spikes
from las_sj.neurons.counts import WindowCounts
from las_sj.neurons.kernels.structures import Code, Thresholds
from las_sj.neurons.row_octaves import ROUNDING_ALLOWANCE, RowGatedNode
from las_sj.neurons.soundness import bounded, fault_of_threshold, fault_of_type
from las_sj.neurons.surrogate import StraightThroughCode
from las_sj.neurons.thresholds import least_with_power_of_two_unit


def as_threshold(name: str, value: float | Tensor) -> nn.Parameter:
    """A threshold as a fp32 parameter without gradient, scalar or per channel ([C]).

    Raises:
        ValueError: a value is not finite and positive, or too small or large to be coded with.
    """
    tensor = torch.as_tensor(value, dtype=torch.float32).detach().clone()
    fault = fault_of_threshold(tensor)
    if fault is not None:
        raise ValueError(f"{name} {fault}, got {value}")
    return nn.Parameter(tensor, requires_grad=False)


class ThresholdNode(RowGatedNode):
    """A neuron that codes its membrane potential by spikes of amplitude α·2^-t, or multiples of it by level.

    Subclasses say which threshold α an element has. Step mode "s": [B, ..., C] to [B, ..., C]; "m": [T_in, B, ..., C]
    to [T, B, ..., C].

    Args:
        code: time steps, levels, rounding and spike limit.
        step_mode, backend: as in WindowNode.

    Attributes:
        power_of_two_units: whether calibration makes θ/n powers of two, so that spikes are exact in half precision.
    """

    power_of_two_units: bool = False

    def __init__(self, code: MultiThresholdCode, step_mode: str, backend: str) -> None:
        super().__init__(code.time_steps, step_mode, backend)
        self.code = code

    @property
    def per_channel(self) -> bool:
        """Whether a threshold has one value per channel."""
        return any(parameter.dim() > 0 for parameter in self.parameters())

    @property
    def thresholds(self) -> tuple[nn.Parameter, ...]:
        """θ of the normal and of the outlier sub-neuron; of one alone, twice the same."""
        raise NotImplementedError

    def kernel_tables(self, x: Tensor) -> list[Tensor] | None:
        """The thresholds; None where torch would broadcast them in another way than one per channel."""
        thresholds = self.thresholds
        for theta in thresholds:
            if theta.dim() and (theta.shape != x.shape[-1:] or not theta.is_contiguous()):
                return None
        return list(thresholds)

    def faults(self, *, of_layout: bool = False) -> Iterator[tuple[str, str]]:
        """Thresholds that nothing can be coded with; `of_layout`: that are no floating-point numbers."""
        for name, theta in self.named_parameters(recurse=False):
            fault = fault_of_type(theta) if of_layout else fault_of_threshold(theta)
            if fault is not None:
                yield name, fault

    @property
    def operands(self) -> list[Tensor]:
        """The thresholds."""
        return list(self.thresholds)

    def _signature(self, kind: str) -> str:
        code = self.code
        return f"{kind} {code.time_steps} {code.levels} {code.rounding} {code.max_spikes}"

    def kernel_settings(self, x: Tensor) -> tuple[float, ...]:
        """The number of channels, where thresholds are per channel."""
        normal, outlier = self.thresholds
        return (x.shape[-1],) if normal.dim() or outlier.dim() else ()

    def describe(self, tables: list[Tensor], channels: int) -> Structure:
        """Thresholds and settings of the code, for the kernels."""
        code = self.code
        settings = Code(code.time_steps, code.levels, code.nearest, code.max_spikes or 0, code.spike_bound)
        addresses = [table.data_ptr() for table in tables]
        per_channel = [table.dim() > 0 for table in tables]
        return Thresholds(*addresses, channels if any(per_channel) else 0, *per_channel, settings)

    def alpha(self, v: Tensor) -> Tensor:
        """The base threshold α of the sub-neuron that each element of `v` goes to, broadcastable to `v`."""
        return self.alpha_of(v.detach().abs(), 1.0)

    def alpha_of(self, magnitude: Tensor, factor: float, counts: WindowCounts | None = None) -> Tensor:
        """α times `factor` for elements of that magnitude, broadcastable to it; `counts` takes outliers, if given."""
        raise NotImplementedError

    def exact(self, v: Tensor) -> Tensor:
        """The membrane potential itself, which is what the code stands for."""
        return v

    def rows(self, v: Tensor) -> Tensor:
        """`v` as rows of channels where thresholds are per channel, else as one row."""
        return v.reshape(-1, v.shape[-1]) if self.per_channel else v.reshape(-1)

    def threshold_for(self, limit: float) -> float:
        """A threshold from `limit` on, as small as the units that are asked for let it be."""
        limit = bounded(limit)
        return least_with_power_of_two_unit(limit, self.code.levels) if self.power_of_two_units else limit

    def part_channels(self, channels: int) -> None:
        """Have a threshold for each of so many channels, in place of one for all; they begin with its value."""
        for name, theta in [*self.named_parameters(recurse=False)]:
            if theta.dim() == 0:
                setattr(self, name, nn.Parameter(theta.detach().repeat(channels), requires_grad=False))

    def coarsen(self, last_step: float) -> None:
        """Raise thresholds until θ(T) is at least `last_step`; the first steps are silent then."""
        least = self.threshold_for(last_step * 2.0**self.time_steps)
        for threshold in self.thresholds:
            threshold.data.clamp_(min=least)

    def with_gradient(self, v: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """encode(v) with straight-through gradients to `v` and, as in LSQ, to the thresholds."""
        return StraightThroughCode.apply(v, self.alpha(v), encode)

    def write_train(self, v: Tensor, train: Tensor, counts: WindowCounts) -> None:
        """Write the spike train of the code for membrane potential `v` ([...]) to `train`, [T, ...]."""
        magnitude, unit = self._prepare(v, counts)
        w = v / unit
        saturated = self._saturated(magnitude, counts)
        steps = self._steps_of(w, saturated, counts)
        write_train(w, unit, train, self.code, counts if counts.counts_spikes else None)
        if saturated is not None and steps is not None:
            train[:, saturated] = steps * unit.expand_as(v)[saturated]

    def write_sum(self, v: Tensor, total: Tensor, counts: WindowCounts) -> None:
        """Write the sum of the code's train for membrane potential `v` ([...]) to `total`, of its shape."""
        magnitude, unit = self._prepare(v, counts)
        w = v / unit
        saturated = self._saturated(magnitude, counts)
        steps = self._steps_of(w, saturated, counts)
        if counts.counts_spikes and can_look_up(self.code):
            counts.add_counts(count_spikes(w, self.code))
            torch.mul(accumulate(w, self.code), unit, out=total)
        else:
            torch.mul(accumulate(w, self.code, counts if counts.counts_spikes else None), unit, out=total)
        if saturated is not None and steps is not None:
            total[saturated] = sum(steps.unbind()[1:], steps[0]) * unit.expand_as(v)[saturated]  # in order, as kernels

    def _steps_of(self, w: Tensor, saturated: Tensor | None, counts: WindowCounts) -> Tensor | None:
        """The trains [T, N] of the elements that the fast forms do not know; puts zeros in their place in `w`."""
        if saturated is None:
            return None
        steps = torch.stack(list(emit_steps(w[saturated], self.code)))
        w[saturated] = 0.0
        if counts.counts_spikes:
            counts.add_at(saturated, (steps != 0).sum(0))
        return steps

    def _prepare(self, v: Tensor, counts: WindowCounts) -> tuple[Tensor, Tensor]:
        """|v|, and θ(1)/n of the sub-neuron of each element; counts outliers."""
        magnitude = v.abs()
        return magnitude, self.alpha_of(magnitude, 0.5 / self.code.levels, counts if counts.counts_spikes else None)

    def _saturated(self, magnitude: Tensor, counts: WindowCounts) -> Tensor | None:
        """Where |v| lies beyond the range or is NaN, if anywhere; counts the former."""
        limit = self.limit(magnitude) * (1 + ROUNDING_ALLOWANCE)
        if self.code.nearest and float(magnitude.amax()) <= float(limit.amin()):
            return None
        counts.out_of_range += int((magnitude > limit).sum())
        if self.code.nearest:
            return ~(magnitude <= limit)
        # "floor" never emits 2θ(1), so the top of a normal sub-neuron's range needs the dynamics too
        return ~(magnitude < self.alpha_of(magnitude, 1 - ROUNDING_ALLOWANCE))

    def count_out_of_range(self, v: Tensor) -> int:
        """How many of the membrane potentials `v` ([B, ...]) lie beyond the outermost threshold."""
        limit = self.limit(v) * (1 + ROUNDING_ALLOWANCE)
        if v.numel() == 0 or max(abs(float(extreme)) for extreme in torch.aminmax(v)) <= float(limit.amin()):
            return 0
        return int((v.abs() > limit).sum())

    def spike_scale(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """The thresholds α that elements of `v` are coded with, in its shape, and zeros: there is no bias."""
        alpha = self.alpha(v).expand(v.shape).clone()
        return alpha, torch.zeros_like(alpha)

    @property
    def most_spikes(self) -> int:
        """The most spikes that the code emits in a window."""
        return most_spikes(self.code)

    @property
    def largest_level(self) -> int:
        """2n: the largest amplitude of the code, in units of θ(t)/n."""
        return 2 * self.code.levels

    def spikes_of(self, v: Tensor) -> Tensor:
        """The spikes of the code for membrane potentials `v` ([B, ...]) as signed levels, int16 [T, B, ...]."""
        by_kernel = self.population.spikes_by_kernel(v)
        if by_kernel is not None:
            return by_kernel
        working = v.detach().to(torch.promote_types(v.dtype, torch.float32))
        unit = self.alpha_of(working.abs(), 0.5 / self.code.levels)
        steps = [step.mul_(2.0**t) for t, step in enumerate(emit_steps(working / unit, self.code))]
        return torch.stack(steps).nan_to_num_(0.0).to(torch.int16)

    def extra_repr(self) -> str:
        """Settings of the code."""
        code = self.code
        return f"{super().extra_repr()}, levels={code.levels}, {code.rounding}, max_spikes={code.max_spikes}"
