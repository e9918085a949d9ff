"""Parts that stay analog: islands in the spiking network."""

from torch import Tensor

from las_sj.models.spiking_layer import SpikingLayer


class AnalogIsland(SpikingLayer):
    """A module kept as it was: in a temporal call it sums its input over T, runs once, and emits 1/T of its output."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.execution.temporal:
            return super().forward(x)
        value = super().forward(self.execution.split_time(x).sum(0))
        current = self.per_step(value)
        return self.execution.merge_time(current.expand(self.execution.time_steps, *value.shape))
