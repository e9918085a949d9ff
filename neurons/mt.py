"""The multi-threshold neuron: an FS neuron with binary thresholds, n levels and signed input."""

from torch import Tensor, nn

from las_sj.neurons import watching
from las_sj.neurons.code import MultiThresholdCode
from las_sj.neurons.counts import WindowCounts
from las_sj.neurons.seen_values import SeenValues
from las_sj.neurons.threshold_node import ThresholdNode, as_threshold


class MTNode(ThresholdNode):
    """Multi-threshold neuron (LAS, arXiv 2505.09659).

    Thresholds θ(t) = θ·2^-t, t = 1 … T, each with the amplitudes a_j(t) = θ(t)·(1 + j/n), j = 0 … n−1:

        v(1) = Σ_t x(t);  s(t) = sgn(v(t))·a_j(t), the amplitude that `rounding` chooses, or 0;  v(t+1) = v(t) − s(t)

    Step mode "s": [B, ..., C] to [B, ..., C]; "m": [T_in, B, ..., C] to [T, B, ..., C].

    Args:
        theta: base threshold, a positive number or one per channel ([C]); |input| up to theta is in range.
        time_steps: T, 1 … 24.
        levels: n, spike amplitudes per step.
        rounding: "nearest" (signed) or "floor" (as published).
        max_spikes: spikes allowed per window, or None.
        step_mode: "s" or "m".
        backend: "auto", "torch", "host" or "cupy".
    """

    def __init__(
        self,
        theta: float | Tensor,
        time_steps: int,
        levels: int = 1,
        rounding: str = "nearest",
        max_spikes: int | None = None,
        step_mode: str = "s",
        backend: str = "auto",
    ) -> None:
        super().__init__(MultiThresholdCode(time_steps, levels, rounding, max_spikes), step_mode, backend)
        self.theta = as_threshold("theta", theta)

    @property
    def thresholds(self) -> tuple[nn.Parameter, ...]:
        """θ twice: a neuron without an outlier sub-neuron is its own."""
        theta = watching.parameters_of(self)["theta"]
        assert theta is not None
        return theta, theta

    @property
    def signature(self) -> str | None:
        """The settings of the code; none of a subclass, which may do something else."""
        return self._signature("mt") if type(self) is MTNode else None

    def alpha_of(self, magnitude: Tensor, factor: float, counts: WindowCounts | None = None) -> Tensor:
        """θ times `factor`, for elements of any magnitude."""
        return self.theta.to(magnitude.dtype) * factor

    def limit(self, v: Tensor) -> Tensor:
        """θ, the largest |v| in range."""
        return self.theta.to(v.dtype)

    def calibrate(self, seen: SeenValues, headroom: float, upper_bound: float | None = None) -> None:
        """Set θ to the largest magnitude that can occur, or that was seen, with headroom."""
        self.theta.data.fill_(self.threshold_for(upper_bound or seen.largest * headroom or 1.0))
