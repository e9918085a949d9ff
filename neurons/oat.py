"""The outlier-aware threshold neuron: two multi-threshold sub-neurons, one for outliers."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from las_sj.neurons import watching
from las_sj.neurons.code import MultiThresholdCode
from las_sj.neurons.counts import WindowCounts
from las_sj.neurons.seen_values import SeenValues
from las_sj.neurons.threshold_node import ThresholdNode, as_threshold
from las_sj.neurons.thresholds import solve_thresholds


class OATNode(ThresholdNode):
    """Outlier-aware threshold neuron (LAS, arXiv 2505.09659).

    Two MT neurons, of which each input goes to one:

        M = [|v(1)| > θ_normal];  s = MT(v; θ = θ_outlier) where M = 1, MT(v; θ = θ_normal) where M = 0

    Inputs with |v| ≤ θ_normal go to the sub-neuron with base threshold θ_normal (a tie is normal, as in
    SpikingJelly's OutlierAwareThresholdNode), all others to the one with θ_outlier.
    Step mode "s": [B, ..., C] to [B, ..., C]; "m": [T_in, B, ..., C] to [T, B, ..., C].

    Args:
        theta_normal: base threshold of the normal sub-neuron, a number or one per channel ([C]).
        theta_outlier: the same of the outlier sub-neuron, ≥ theta_normal; |input| up to it is in range.
        time_steps, levels, rounding, max_spikes, step_mode, backend: as in MTNode.

    Raises:
        ValueError: a threshold is not positive, or theta_outlier < theta_normal.
    """

    def __init__(
        self,
        theta_normal: float | Tensor,
        theta_outlier: float | Tensor,
        time_steps: int,
        levels: int = 1,
        rounding: str = "nearest",
        max_spikes: int | None = None,
        step_mode: str = "s",
        backend: str = "auto",
    ) -> None:
        super().__init__(MultiThresholdCode(time_steps, levels, rounding, max_spikes), step_mode, backend)
        self.theta_normal = as_threshold("theta_normal", theta_normal)
        self.theta_outlier = as_threshold("theta_outlier", theta_outlier)
        if not self.theta_normal.is_meta and bool((self.theta_outlier < self.theta_normal).any()):
            raise ValueError(f"theta_outlier ({theta_outlier}) must not be below theta_normal ({theta_normal})")

    @property
    def thresholds(self) -> tuple[nn.Parameter, ...]:
        """θ_normal and θ_outlier."""
        own = watching.parameters_of(self)
        normal, outlier = own["theta_normal"], own["theta_outlier"]
        assert normal is not None
        assert outlier is not None
        return normal, outlier

    def faults(self, *, of_layout: bool = False) -> Iterator[tuple[str, str]]:
        """Thresholds that nothing can be coded with, and an outlier's below the normal one."""
        yield from super().faults(of_layout=of_layout)
        if not of_layout and not self.theta_normal.is_meta and bool((self.theta_outlier < self.theta_normal).any()):
            yield "theta_outlier", "must not be below theta_normal"

    @property
    def signature(self) -> str | None:
        """The settings of the code; none of a subclass, which may do something else."""
        return self._signature("oat") if type(self) is OATNode else None

    def alpha_of(self, magnitude: Tensor, factor: float, counts: WindowCounts | None = None) -> Tensor:
        """θ_normal or θ_outlier, by magnitude, times `factor`; `counts` takes outliers, if given."""
        normal, outlier = self.theta_normal.to(magnitude.dtype), self.theta_outlier.to(magnitude.dtype)
        is_outlier = magnitude > normal
        if counts is not None:
            counts.add_outliers(is_outlier)
        return torch.where(is_outlier, outlier * factor, normal * factor)

    def limit(self, v: Tensor) -> Tensor:
        """θ_outlier, the largest |v| in range."""
        return self.theta_outlier.to(v.dtype)

    def calibrate(self, seen: SeenValues, headroom: float, upper_bound: float | None = None) -> None:
        """Set θ_outlier to the largest magnitude, with headroom, and θ_normal for the least squared error."""
        limit = self.threshold_for(upper_bound or seen.largest * headroom or 1.0)
        normal, outlier = solve_thresholds(
            seen.histogram, limit, self.code, True, whole_octaves=self.power_of_two_units
        )
        self.theta_normal.data.fill_(self.threshold_for(normal))
        self.theta_outlier.data.fill_(outlier)

    def outliers(self, v: Tensor) -> Tensor:
        """Which elements of the membrane potential `v` the outlier sub-neuron codes, bool [...]."""
        return v.abs() > self.theta_normal.to(v.dtype)
