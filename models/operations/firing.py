"""What an operation has of neurons: populations of its module, and spikes of those that others read."""

from collections.abc import Callable
from functools import cached_property, partial
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from las_sj.models.operations.coded import Coded, Source, coded_of, keep_coded, read
from las_sj.models.operations.place import inputs_of_function, place_of
from las_sj.models.operations.populations import Kind, Populations, Reading
from las_sj.models.operations.reach import Reach
from las_sj.models.operations.scope import BOUNDARY, Scope, full_name_of, node_of, populations_at
from las_sj.models.operations.time_axis import OneStep, TimeAxis, mark, time_axis_of
from las_sj.models.registry import UnsupportedModelError
from las_sj.neurons import FUNCTIONS, FanOut, WindowNode, watching

Finds = Callable[[], Reach] | None


class Firing:
    """What an `Operation` has of neurons: the populations of its module, and spikes that others read too.

    Args:
        scope: of the call.
        name: of the function.
        function: the function itself.
        frame: of its caller.

    Attributes:
        time: arithmetic with time.
    """

    def __init__(self, scope: Scope, name: str, function: Callable[..., Any], frame: FrameType) -> None:
        self.scope = scope
        self.name = name
        self.function = function
        self.frame = frame
        self.time = scope.time
        self._title: str | None = None

    @property
    def time_steps(self) -> int:
        """T in a temporal call, else 1."""
        return self.time.time_steps

    @property
    def temporal(self) -> bool:
        """Whether the call is temporal: neurons take and return windows."""
        return self.scope.temporal

    @property
    def module(self) -> nn.Module:
        """The module in whose forward method the operation stands."""
        return self.scope.modules[-1]

    @property
    def place(self) -> str:
        """Where in the forward method it stands (`place_of`)."""
        return place_of(self.frame, BOUNDARY)

    def refusal(self, why: str) -> UnsupportedModelError:
        """The error for what has no spiking form."""
        return UnsupportedModelError(f"no spiking form of {self.name} {why} ({self.where})")

    @property
    def where(self) -> str:
        """Module and function, for messages."""
        function = self.place.partition(" < ")[0].partition(":")[0]
        return f"{self.scope.name_of(self.module)}, {function}"

    @cached_property
    def populations(self) -> Populations:
        """The populations of the module."""
        return self.scope.populations_of(self.module)

    @property
    def title(self) -> str:
        """The name of the operation among those of the module."""
        if self._title is None:
            place, populations = self.place, self.populations
            known = populations.names.get(f"{self.name}@{place}")
            if known is None and not self.scope.operated.finds:
                raise RuntimeError(
                    f"{self.name} in {self.where} was not run when the model was converted, so that it has no neurons: "
                    "convert the model with calibration data that takes this way through it; or again, if it was saved "
                    "under another version of transformers or las_sj, whose code stands elsewhere"
                )
            self._title = known or populations.name_operation(self.name, place)
        return self._title

    def name_of(self, role: str) -> str:
        """The name of the population with a role in the operation."""
        return f"{self.title}_{role}" if role else self.title

    def _refuse_gradients_of_functions(self) -> None:
        """Refuse the gradient that a `torch.autograd.Function` computes itself, of what single time steps bring."""
        if not self.temporal or not self.scope.has_gradients or torch.is_grad_enabled():
            return
        for x in inputs_of_function(self.frame):
            error = self.refusal(
                "in time with a gradient of its own (a torch.autograd.Function, which sees single time steps): "
                "train in the accumulated execution"
            )
            x.register_hook(partial(_refuse_gradient, error))

    def node(self, role: str, kind: Kind) -> WindowNode:
        """The population with a role in the operation."""
        self._refuse_gradients_of_functions()
        name, populations = self.name_of(role), self.populations
        node = watching.children_of(populations).get(name)
        if node is None:
            if kind.function and kind.function not in FUNCTIONS:
                raise self.refusal(f"by neurons of {kind.function}, a function that HG neurons do not know")
            node = populations.add(name, kind, self.scope.operated.factory)
            node.bypass = True
        assert isinstance(node, WindowNode)
        return node

    def code(
        self, x: Tensor, role: str = "", feeds: str = "weights", upper_bound: float | None = None, reach: Finds = None
    ) -> Tensor:
        """A current as spikes, in its shape: those of the population that has coded it already, if there is one.

        Args:
            x: the current.
            role: of the population in the operation.
            feeds, upper_bound: as of `Kind`.
            reach: finds where the spikes of a window go, if anybody counts them; None: one synapse a neuron.
        """
        kind = Kind("", feeds, upper_bound, synapses=1 if reach is None else None, is_mac=reach is not None)
        name, coded = self.name_of(role), coded_of(x)
        reading = self._reading(name, kind, coded)
        if reading is None:
            node = self.node(role, kind)
            return self.kept(
                name, x, self.pass_through(node, x, reach, are_read_again=name in self.populations.readers)
            )
        self._refuse_gradients_of_functions()
        if coded is None or coded.source != reading.source:
            return self._recoded(node_of(self.scope.modules[0], reading.source), x, reach)
        self._tell(name, x, coded, reach)
        return read(x, coded)

    def _reading(self, name: str, kind: Kind, coded: Coded | None) -> Reading | None:
        """Whose spikes are read in place of a population; while operations are found, those of who coded the current.

        A population that codes the same values for the first time would be calibrated to the same thresholds.
        """
        known = self.populations.readings.get(name)
        if known is not None or coded is None or not self.scope.operated.finds:
            return known
        if name in self.populations.kinds or kind.upper_bound is not None or not self.scope.is_in_part(coded.source):
            return None
        owner = populations_at(self.scope.modules[0], coded.source)
        owner.note_reader(coded.source.population, emits_for_others=coded.emits_for_others)
        reading = Reading(coded.source, kind.feeds, kind.synapses, kind.is_mac)
        self.populations.readings[name] = reading
        return reading

    def kept(self, name: str, x: Tensor, spikes: Tensor, *, emits_for_others: bool = False) -> Tensor:
        """Spikes of a population, which are kept for other operations that need those of the same current.

        Args:
            name: of the population.
            x: the current.
            spikes: what became of it; may be the current itself.
            emits_for_others: whether the operation does nothing with them itself.
        """
        readers = self.populations.readers.get(name)
        if readers or self.scope.operated.finds:
            source, node = Source(full_name_of(self.module), name), getattr(self.populations, name)
            counts = None if node.recorder is None else node.counts.last
            known = None if self.scope.operated.finds else readers
            keep_coded(x, Coded(source, None if spikes is x else spikes, known, counts, emits_for_others))
        return spikes

    def _recoded(self, node: WindowNode, x: Tensor, reach: Finds) -> Tensor:
        """Another current through the population whose spikes are read as a rule, wherever its thresholds lie."""
        place = next(node.parameters()).device
        if place in (x.device, torch.device("meta")):
            return self.pass_through(node, x, reach)
        moved = self.current(x.to(place), self.axis(x))
        return self.current(self.pass_through(node, moved, reach).to(x.device), self.axis(x))

    def _tell(self, name: str, x: Tensor, coded: Coded, reach: Finds) -> None:
        """Tell who counts readings of one."""
        recorder = self.populations.recorders.get(name)
        if recorder is not None and coded.counts is not None:
            shape = self._window(x).shape[1:] if self.temporal else x.shape
            recorder(coded.counts, shape, self._fan_out(shape, reach))

    def fire(self, function: str, x: Tensor, role: str = "") -> Tensor:
        """A function of `FUNCTIONS` of a current, by HG neurons."""
        return self.pass_through(self.node(role, Kind(function, native=function)), x)

    def pass_through(self, node: WindowNode, x: Tensor, reach: Finds = None, *, are_read_again: bool = False) -> Tensor:
        """A current through neurons.

        Args:
            node: the neurons.
            x: the current.
            reach: as of `code`.
            are_read_again: whether other operations read the spikes.
        """
        axis, window = self.axis(x), self._window(x)
        shape = window.shape[1:] if self.temporal else window.shape
        tells = reach is not None or are_read_again
        find = partial(self._fan_out, shape, reach, are_read_again=are_read_again) if tells else None
        if not self.temporal:
            return self.current(self.populations.fire(node, window, find), axis)
        return self.current(self.time.closed(self.populations.emit(node, window, find), axis), axis)

    def _window(self, x: Tensor) -> Tensor:
        """[T, ...] of a temporal call, else the values."""
        return self.time.window(x, self.axis(x)) if self.temporal else x

    def _fan_out(self, shape: torch.Size, reach: Finds, *, are_read_again: bool = False) -> FanOut:
        found = Reach(1) if reach is None else reach()
        return FanOut(self.scope.execution.live_of(shape), found.synapses, found.macs, are_read_again)

    def is_current(self, x: Any) -> bool:
        """Whether something is a current."""
        return time_axis_of(x) is not None

    def axis(self, x: Tensor) -> TimeAxis:
        """Where a current holds time."""
        axis = time_axis_of(x)
        assert axis is not None, "a rule lost the time axis of a current"
        return axis

    def current(self, x: Tensor, axis: TimeAxis | OneStep) -> Tensor:
        """Mark a tensor as a current."""
        return mark(x, axis)


def _refuse_gradient(error: UnsupportedModelError, _: Tensor) -> None:
    raise error
