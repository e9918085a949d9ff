"""Parts that stay analog: islands in the spiking network."""

from dataclasses import dataclass
from typing import Any

from las_sj.models.layers.foreign_view import ForeignView
from las_sj.models.layers.spiking_layer import SpikingLayer
from las_sj.models.mac_counter import mac_counter, macs_of
from las_sj.neurons import watching
from las_sj.neurons.counts import add_safely


@dataclass(eq=False)
class IslandCounts:
    """Multiply-accumulates that an analog part ran, padding among them."""

    macs: int = 0


class AnalogIsland(SpikingLayer):
    """A module kept as it was, from one linear layer to a whole vision tower: [T·B, ...] to [T·B, ...].

    In a temporal call it sums its input, the first float tensor that it is given, over T, runs once, and emits 1/T of
    its outputs at each step; of other arguments (tokens, masks), which were repeated T times, it takes the first share.

    Attributes:
        counts: if set, takes the multiply-accumulates of matrix products and convolutions in it.
    """

    prefix = ""  # transformers knows by the names of classes what a model can return
    counts: IslandCounts | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if not self.execution.temporal:
            return self._run(args, kwargs)
        view = ForeignView.at(self.execution.time_steps, None, args, kwargs)
        return view.as_currents(self._run(*view.arguments(args, kwargs)))

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        counts = self.counts
        if counts is None or watching.in_backward():  # computed again by gradient checkpointing: counted before
            return super().forward(*args, **kwargs)
        with mac_counter() as counter:
            output = super().forward(*args, **kwargs)
        add_safely(counts, "macs", macs_of(counter))
        return output
