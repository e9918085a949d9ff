"""The few-spikes neuron (Stöckl & Maass 2021, doi 10.1038/s42256-021-00311-4)."""

from collections.abc import Callable, Iterator

import torch
from spikingjelly.activation_based import surrogate
from spikingjelly.activation_based.neuron import FewSpikeTable
from torch import Tensor

from las_sj.neurons.counts import WindowCounts
from las_sj.neurons.window import WindowNode


class FSNode(WindowNode):
    """Few-spikes neuron: v(1) = Σ_t x(t);  s(t) = Θ(v(t) − θ(t));  v(t+1) = v(t) − h(t)·s(t);  output d(t)·s(t).

    Args:
        table: thresholds θ, resets h and output weights d, one each per step.
        surrogate_function: gradient of the step function (SpikingJelly's, sigmoid by default).
        step_mode: "s" or "m".
    """

    def __init__(
        self,
        table: FewSpikeTable,
        surrogate_function: surrogate.SurrogateFunctionBase | None = None,
        step_mode: str = "s",
    ) -> None:
        super().__init__(table.K, step_mode)
        for name in ("theta", "h", "d"):
            self.register_buffer(name, getattr(table, name).clone())
        self.surrogate_function = surrogate_function or surrogate.Sigmoid()

    @property
    def supported_backends(self) -> tuple[str, ...]:
        """Torch alone: tables are of any kind."""
        return ("torch",)

    def exact(self, v: Tensor) -> Tensor:
        """The membrane potential, which is what a table of a coding neuron stands for."""
        return v

    def with_gradient(self, v: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """encode(v): its steps have the surrogate's gradient."""
        return encode(v)

    def _steps(self, v: Tensor, counts: WindowCounts) -> Iterator[Tensor]:
        for theta, h, d in zip(self.theta, self.h, self.d, strict=True):
            spike = self.surrogate_function(v - theta)
            v = v - h * spike
            if counts.counts_spikes:
                counts.add_fired((spike.detach() != 0).to(v.dtype))
            yield d * spike

    def write_train(self, v: Tensor, train: Tensor, counts: WindowCounts) -> None:
        """Write d(t)·s(t) for membrane potential `v` ([...]) to `train`, [T, ...]."""
        for t, step in enumerate(self._steps(v, counts)):
            train[t] = step

    def write_sum(self, v: Tensor, total: Tensor, counts: WindowCounts) -> None:
        """Write Σ_t d(t)·s(t) for membrane potential `v` ([...]) to `total`, of its shape."""
        total.zero_()
        for step in self._steps(v, counts):
            total += step

    def spikes_of(self, v: Tensor) -> Tensor:
        """The spikes s(t) for membrane potential `v` ([B, ...]), 0 or 1, int16 [T, B, ...]."""
        spikes = v.new_zeros((self.time_steps, *v.shape), dtype=torch.int16)
        remaining = v.detach()
        for t, (theta, h) in enumerate(zip(self.theta, self.h, strict=True)):
            spikes[t] = remaining >= theta
            remaining = remaining - h * spikes[t]
        return spikes
