"""What a rule is given: the neurons of an operation, and what becomes of constants and time."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from las_sj.models.layers.linear import is_plain
from las_sj.models.layers.products import spiking_matmul, spiking_product
from las_sj.models.operations.firing import Firing
from las_sj.models.operations.time_axis import TimeAxis, time_axis_of
from las_sj.neurons.buffers import BUFFERS

MASKED = -(2.0**14)  # exact in shares of T, so that rows that are hidden as a whole keep what they have


class Operation(Firing):
    """One torch function that is called with currents, as its rule sees it."""

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
        currents = [(x, axis) for x in tensors if (axis := time_axis_of(x)) is not None]
        found = {axis.at(dims - x.dim() + axis.axis) for x, axis in currents}
        if len(found) > 1 and self.time_steps > 1:
            each = ((x, self.time.entry_by_entry(axis, x)) for x, axis in currents)
            found = {axis.at(dims - x.dim() + axis.axis) for x, axis in each}
        if len(found) > 1 and self.time_steps > 1:
            raise self.refusal("of currents that hold time in different dimensions")
        return found.pop()

    @staticmethod
    def room(*operands: Any) -> Tensor | None:
        """Memory for what an element-wise function makes of tensors of one type, if it is large and may be used again.

        None where torch must take its own: for a gradient, for those who follow operations, for other kinds of tensor.
        """
        if not is_plain(*operands) or not all(isinstance(x, Tensor) and x.dtype == operands[0].dtype for x in operands):
            return None
        shape = torch.broadcast_shapes(*(x.shape for x in operands))
        return BUFFERS.empty(shape, operands[0]) if BUFFERS.serve(shape, operands[0]) else None

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
