"""The few-spikes neuron (Stöckl & Maass 2021, doi 10.1038/s42256-021-00311-4)."""

from collections.abc import Callable, Iterator

import torch
from spikingjelly.activation_based import surrogate
from spikingjelly.activation_based.neuron import FewSpikeTable
from torch import Tensor

from las_sj.neurons.tally import WindowCounts
from las_sj.neurons.window import WindowNode


class FSNode(WindowNode):
    """v(1) = Σ_t x(t);  s(t) = Θ(v(t) − θ(t));  v(t+1) = v(t) − h(t)·s(t);  output d(t)·s(t).

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
        return ("torch",)

    def _kernels(self, x: Tensor) -> None:
        """Tables of any kind are run by torch."""

    def _exact(self, v: Tensor) -> Tensor:
        return v

    def _with_gradient(self, v: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        return encode(v)

    def _steps(self, v: Tensor, counts: WindowCounts | None) -> Iterator[Tensor]:
        for theta, h, d in zip(self.theta, self.h, self.d, strict=True):
            spike = self.surrogate_function(v - theta)
            v = v - h * spike
            if counts is not None:
                counts.add_fired((spike.detach() != 0).to(v.dtype))
            yield d * spike

    def _fire(self, v: Tensor, train: Tensor, counts: WindowCounts | None) -> None:
        for t, step in enumerate(self._steps(v, counts)):
            train[t] = step

    def _accumulate(self, v: Tensor, total: Tensor, counts: WindowCounts | None) -> None:
        total.zero_()
        for step in self._steps(v, counts):
            total += step

    def spikes_of(self, v: Tensor) -> Tensor:
        spikes = v.new_zeros((self.time_steps, *v.shape), dtype=torch.int16)
        remaining = v.detach()
        for t, (theta, h) in enumerate(zip(self.theta, self.h, strict=True)):
            spikes[t] = remaining >= theta
            remaining = remaining - h * spikes[t]
        return spikes
