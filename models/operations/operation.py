"""What a rule is given: the neurons of an operation, and what becomes of constants and time."""

from collections.abc import Callable, Iterable
from functools import cached_property, partial
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from las_sj.models.layers.products import spiking_matmul, spiking_product
from las_sj.models.operations.place import place_of
from las_sj.models.operations.populations import Kind, Populations
from las_sj.models.operations.reach import Reach
from las_sj.models.operations.scope import BOUNDARY, Scope
from las_sj.models.operations.time_axis import OneStep, TimeAxis, mark, time_axis_of
from las_sj.models.registry import UnsupportedModelError
from las_sj.neurons import FUNCTIONS, FanOut, WindowNode

Finds = Callable[[], Reach] | None
MASKED = -(2.0**14)  # exact in shares of T, so that rows that are hidden as a whole keep what they have


class Operation:
    """One torch function that is called with currents, as its rule sees it.

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

    @cached_property
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

    # Neurons

    @cached_property
    def populations(self) -> Populations:
        """The populations of the module."""
        return self.scope.populations_of(self.module)

    @cached_property
    def title(self) -> str:
        """The name of the operation among those of the module."""
        known = self.populations.names.get(f"{self.name}@{self.place}")
        if known is not None:
            return known
        if not self.scope.operated.finds:
            raise RuntimeError(
                f"{self.name} in {self.where} was not run when the model was converted, so that it has no neurons: "
                "convert the model with calibration data that takes this way through it"
            )
        return self.populations.name_operation(self.name, self.place)

    def node(self, role: str, kind: Kind) -> WindowNode:
        """The population with a role in the operation."""
        name = f"{self.title}_{role}" if role else self.title
        if name not in self.populations.kinds:
            if kind.function and kind.function not in FUNCTIONS:
                raise self.refusal(f"by neurons of {kind.function}, a function that HG neurons do not know")
            self.populations.add(name, kind, self.scope.operated.factory).bypass = True
        node = getattr(self.populations, name)
        assert isinstance(node, WindowNode)
        return node

    def code(
        self, x: Tensor, role: str = "", feeds: str = "weights", upper_bound: float | None = None, reach: Finds = None
    ) -> Tensor:
        """A current as spikes, in its shape.

        Args:
            x: the current.
            role: of the population in the operation.
            feeds, upper_bound: as of `Kind`.
            reach: finds where the spikes of a window go, if anybody counts them; None: one synapse a neuron.
        """
        kind = Kind("", feeds, upper_bound, synapses=1 if reach is None else None, is_mac=reach is not None)
        return self.pass_through(self.node(role, kind), x, reach)

    def fire(self, function: str, x: Tensor, role: str = "") -> Tensor:
        """A function of `FUNCTIONS` of a current, by HG neurons."""
        return self.pass_through(self.node(role, Kind(function, native=function)), x)

    def pass_through(self, node: WindowNode, x: Tensor, reach: Finds = None) -> Tensor:
        """A current through neurons."""
        axis = self.axis(x)
        window = self.time.window(x, axis) if self.temporal else x
        shape = window.shape[1:] if self.temporal else window.shape
        find = None if reach is None else partial(self._fan_out, shape, reach)
        if not self.temporal:
            return self.current(self.populations.fire(node, window, find), axis)
        return self.current(self.time.closed(self.populations.emit(node, window, find), axis), axis)

    def _fan_out(self, shape: torch.Size, reach: Callable[[], Reach]) -> FanOut:
        found = reach()
        return FanOut(self.scope.execution.live_of(shape), found.synapses, found.macs)

    # Constants and time

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

    def share(self, constant: Any) -> Any:
        """A constant as what one step adds; numbers for −∞ are brought to `MASKED`."""
        if isinstance(constant, Tensor):
            if not constant.is_floating_point() and not constant.is_complex():
                constant = constant.to(torch.get_default_dtype())
            constant = constant if constant.is_complex() else constant.clamp(min=MASKED)
        elif constant is not None:
            constant = max(float(constant), MASKED)
        return constant if constant is None or self.time_steps == 1 else constant / self.time_steps

    def addend(self, x: Any) -> Any:
        """A current as it is, a constant as its share."""
        return x if self.is_current(x) else self.share(x)

    def total(self, x: Tensor) -> Tensor:
        """The sum over T of a current."""
        return self.time.total(x, self.axis(x))

    def repeat(self, decision: Tensor, axis: TimeAxis) -> Tensor:
        """What was decided from sums over T, for each step."""
        return self.time.repeated(decision, axis)

    def decided(self) -> None:
        """Note that the operation decides by sums over T."""
        self.scope.operated.note_decision(self.scope.name_of(self.module), self.name)

    def aligned(self, dims: int, tensors: Iterable[Any]) -> TimeAxis:
        """Where an element-wise result of `dims` dimensions holds time."""
        found = set()
        for x in tensors:
            axis = time_axis_of(x)
            if axis is not None:
                found.add(TimeAxis(dims - x.dim() + axis.axis, axis.outer))
        if len(found) > 1 and self.time_steps > 1:
            raise self.refusal("of currents that hold time in different dimensions")
        return found.pop()

    # Products

    def bilinear(self, function: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
        """A product of two coded currents, unmarked: in each of its terms one operand is spikes.

        Args:
            function: linear in both, step by step the same.
            a, b: currents.
        """
        if self.time_steps == 1:
            return function(a, b)
        a_sum, b_sum = (self.time.running(x, self.axis(x)) for x in (a, b))
        return function(a_sum, b) + function(a, b_sum - b)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """The Hadamard product of two coded currents."""
        return self._in_windows(spiking_product, torch.mul, a, b)

    def matrix_product(self, a: Tensor, b: Tensor) -> Tensor:
        """The matrix product of two coded currents of as many dimensions, time before the last two."""
        return self._in_windows(_spiking_matmul, torch.matmul, a, b)

    def _in_windows(
        self, over_time: Callable[..., Tensor], at_once: Callable[..., Tensor], a: Tensor, b: Tensor
    ) -> Tensor:
        dims = max(a.dim(), b.dim())
        axis = self.aligned(dims, (a, b))
        if self.time_steps == 1:
            return self.current(at_once(a, b), axis)
        windows = [self.time.window(x.view(*[1] * (dims - x.dim()), *x.shape), axis) for x in (a, b)]
        y = self.time.closed(over_time(*windows).to(torch.promote_types(a.dtype, b.dtype)), axis)
        return self.current(y, axis)


def _spiking_matmul(a_seq: Tensor, b_seq: Tensor) -> Tensor:
    batch = torch.broadcast_shapes(a_seq.shape[:-2], b_seq.shape[:-2])
    return spiking_matmul(*(x.expand(*batch, *x.shape[-2:]) for x in (a_seq, b_seq)))
