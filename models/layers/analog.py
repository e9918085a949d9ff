"""Parts that stay analog: islands in the spiking network."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers.utils import ModelOutput

from las_sj.models.inputs import OF_IMAGES
from las_sj.models.layers.spiking_layer import SpikingLayer
from las_sj.neurons import watching
from las_sj.neurons.counts import add_safely

_BOUNDS = ("cu_seqlens",)  # where images begin, and where the last one ends


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
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.dim() > 0]
        rows = len(next((value for value in tensors if value.is_floating_point()), tensors[0]))
        args, kwargs = _Collector(self.execution.time_steps, rows).collect(args, kwargs)
        return self._emit(self._run(args, kwargs))

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        counts = self.counts
        if counts is None or watching.in_backward():  # computed again by gradient checkpointing: counted before
            return super().forward(*args, **kwargs)
        with FlopCounterMode(display=False) as counter:
            output = super().forward(*args, **kwargs)
        add_safely(counts, "macs", counter.get_total_flops() // 2)
        return output

    def _emit(self, output: Any) -> Any:
        """Each float tensor [B, ...] of an output as currents [T·B, ...]."""
        if isinstance(output, Tensor):
            if not output.is_floating_point() or output.dim() == 0:
                return output
            return self.per_step(output).repeat(self.execution.time_steps, *[1] * (output.dim() - 1))
        if isinstance(output, ModelOutput):
            return type(output)(**{name: self._emit(value) for name, value in output.items()})
        if isinstance(output, tuple | list):
            return type(output)(self._emit(item) for item in output)
        return output


class _Collector:
    """Turns the arguments of a temporal call into those of one run: the current is summed, the rest is cut."""

    def __init__(self, time_steps: int, rows: int) -> None:
        self.time_steps = time_steps
        self.rows = rows
        self.summed = False

    def collect(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return tuple(self._of("", item) for item in args), {name: self._of(name, item) for name, item in kwargs.items()}

    def _of(self, name: str, value: Any) -> Any:
        if isinstance(value, Tensor) and value.dim() > 0:
            if value.is_floating_point() and not self.summed:
                self.summed = True
                return value.unflatten(0, (self.time_steps, -1)).sum(0)
            if name in _BOUNDS:
                return value[: (len(value) - 1) // self.time_steps + 1]
            repeated = len(value) == self.rows or name in OF_IMAGES
            return value[: len(value) // self.time_steps] if repeated else value
        return tuple(self._of(name, item) for item in value) if isinstance(value, tuple) else value
