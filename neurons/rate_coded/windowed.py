"""A quantised activation as a neuron of LAS: it integrates a whole window, then fires binary spikes."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from las_sj.neurons.counts import OUTLIER_FLAG, WindowCounts
from las_sj.neurons.rate_coded.quantizer import level_of, quantised
from las_sj.neurons.rate_coded.threshold import as_positive, least_threshold
from las_sj.neurons.window import WindowNode


class QCFSWindowNode(WindowNode):
    """Neuron that integrates a window of T steps, then emits what a `QCFSQuantizer` makes of the sum, spike by spike.

        N = clip(⌊v·n/θ + ½⌋, 0, n),  n = min(L, T),  of membrane potential v = Σ_t x(t)

    N binary spikes carry θ/n each, so that their sum is the quantiser's value of n levels: that of L levels for T ≥ L,
    without unevenness. After step t it has fired ⌊t·N/T + ½⌋ times: when an integrate-and-fire neuron does that begins
    at half its threshold, under a constant current. NaN emits NaN.

    Step mode "s": [B, ..., C] to [B, ..., C]; "m": [T_in, B, ..., C] to [T, B, ..., C]. Gradients are the quantiser's,
    evenly shared among the steps of a train. Calibration leaves θ as it was trained.

    Args:
        theta: threshold θ, a positive number or one per channel ([C]); a parameter that is trained.
        levels: L ≥ 1 of the quantiser.
        time_steps: T ≥ 1.
        clip_first: as in `QCFSQuantizer`.
        step_mode: "s" or "m".

    Raises:
        ValueError: a threshold is not finite and positive, there is one per position, levels is no integer ≥ 1, or n is
            64 or more.
    """

    def __init__(
        self,
        theta: float | Tensor,
        levels: int,
        time_steps: int,
        clip_first: bool = True,
        step_mode: str = "s",
    ) -> None:
        super().__init__(time_steps, step_mode)
        if not isinstance(levels, int) or isinstance(levels, bool) or levels < 1:
            raise ValueError(f"levels must be an integer >= 1, got {levels!r}")
        if min(levels, time_steps) >= OUTLIER_FLAG:
            raise ValueError(f"levels or time_steps must be below {OUTLIER_FLAG}, got {levels} and {time_steps}")
        self.levels = levels
        self.clip_first = clip_first
        self.theta = as_positive("theta", theta, is_trained=True)
        if self.theta.dim() > 1:
            raise ValueError(f"theta must be one number or one per channel, got shape {list(self.theta.shape)}")

    @property
    def supported_backends(self) -> tuple[str, ...]:
        """Torch alone."""
        return ("torch",)

    @property
    def most_spikes(self) -> int:
        """The most spikes that a neuron emits in a window: n = min(L, T)."""
        return min(self.levels, self.time_steps)

    @property
    def scale(self) -> Tensor:
        """What a spike carries: θ/n."""
        return least_threshold(self.theta) / self.most_spikes

    @property
    def per_channel(self) -> bool:
        """Whether each channel has a threshold of its own."""
        return self.theta.dim() > 0

    def rows(self, v: Tensor) -> Tensor:
        """`v` as rows of channels where thresholds are per channel, else as one row."""
        return v.reshape(-1, v.shape[-1]) if self.per_channel else v.reshape(-1)

    def exact(self, v: Tensor) -> Tensor:
        """The quantiser's value of n levels, [...] to [...]; clipped alone where quantisers are continuous."""
        return quantised(v, self.theta, self.most_spikes, self.clip_first)

    def _number_of_spikes(self, v: Tensor, counts: WindowCounts | None = None) -> Tensor:
        """N of membrane potentials [...], as floating-point numbers; NaN, which is no spike, of NaN."""
        number = level_of(v.detach(), self.theta.detach(), self.most_spikes, self.clip_first)
        if counts is not None and counts.counts_spikes:
            counts.add_counts(number.nan_to_num(0.0).to(torch.int8))
        return number

    def _fired(self, number: Tensor) -> Iterator[Tensor]:
        """The spikes of each step, 0 or 1, of neurons that fire so many times, [...]."""
        before = torch.zeros_like(number)
        for t in range(1, self.time_steps + 1):
            after = ((2 * t * number + self.time_steps) / (2 * self.time_steps)).floor_()  # exact: small integers
            yield after - before
            before = after

    def write_sum(self, v: Tensor, total: Tensor, counts: WindowCounts) -> None:
        """Write N·θ/n for membrane potential `v` ([...]) to `total`, of its shape."""
        number = self._number_of_spikes(v, counts)
        torch.mul(number / self.most_spikes, least_threshold(self.theta.detach()).to(number.dtype), out=total)

    def write_train(self, v: Tensor, train: Tensor, counts: WindowCounts) -> None:
        """Write the spikes for membrane potential `v` ([...]), times θ/n, to `train`, [T, ...]."""
        number = self._number_of_spikes(v, counts)
        scale = self.scale.detach().to(number.dtype)
        for step, fired in zip(train, self._fired(number), strict=True):
            torch.mul(fired, scale, out=step)

    def spikes_of(self, v: Tensor) -> Tensor:
        """The spikes for membrane potential `v` ([B, ...]), 0 or 1, int16 [T, B, ...]."""
        number = self._number_of_spikes(v).nan_to_num(0.0)
        return torch.stack(list(self._fired(number))).to(torch.int16)

    def spike_scale(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """θ/n for elements of `v`, in its shape, and zeros: there is no bias."""
        scale = self.scale.detach().to(v.dtype).expand(v.shape).clone()
        return scale, torch.zeros_like(scale)

    @property
    def amplitudes_halve(self) -> bool:
        """All spikes carry the same."""
        return False

    def with_gradient(self, v: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """encode(v), with the gradients of a quantiser of n levels to `v` and to θ."""
        emitted = encode(v.detach())
        value = self.exact(v)
        nothing = value - value.detach()  # 0, with a gradient
        return emitted + (nothing / self.time_steps if emitted.dim() > v.dim() else nothing)

    def faults(self, *, of_layout: bool = False) -> Iterator[tuple[str, str]]:
        """Thresholds that cannot be the neurons': infinite or NaN, or none above 0."""
        if not bool(self.theta.isfinite().all()):
            yield "theta", "has infinite or NaN values"
        elif not of_layout and not bool((self.theta > 0).any()):
            yield "theta", "has no positive value"

    def extra_repr(self) -> str:
        """Time steps, step mode and levels."""
        return f"{super().extra_repr()}, levels={self.levels}"
