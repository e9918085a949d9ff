"""What hooks of others see of a call of a model that is converted by operations: values, as in the ANN."""

from typing import Any

import torch
from torch import Tensor

from las_sj.models.layers.foreign_view import ForeignView, Shown
from las_sj.models.operations.scope import active, paused
from las_sj.models.operations.time_axis import OneStep, TimeAxis, Timeline, mark, time_axis_of
from las_sj.models.registry import UnsupportedModelError


class SeenValues(ForeignView):
    """The values of one call at one place: marks tell what is a current, and where it holds time.

    It is needed in accumulated calls too, where what a hook makes of a current has to become one.
    """

    @classmethod
    def here(cls) -> "SeenValues | None":
        """The view of the call that is under way; None outside of one."""
        scope = active()
        return None if scope is None else cls(scope.time.time_steps, scope.rows)

    def _argument(self, name: str, value: Any, current: Tensor | None) -> Any:
        return super()._argument(name, value, value if time_axis_of(value) is not None else None)

    def outputs(self, value: Any, kind: str = "currents") -> Any:
        """What a module returned, as in a call of the ANN; `kind` does not matter, since currents are marked."""
        return self._argument("", value, None)

    def _sum(self, value: Tensor) -> Tensor:
        axis = time_axis_of(value)
        assert axis is not None
        if isinstance(axis, OneStep):
            raise UnsupportedModelError("a hook stands where a batch is taken apart, and would see single time steps")
        with paused():
            return Timeline(self.time_steps).total(value, axis)

    def _answer(self, shown: Shown | None, given: Any, result: Tensor, name: str) -> Tensor:
        axis = time_axis_of(given)
        if shown is None or axis is None:
            return super()._answer(shown, given, result, name)
        with paused():
            if result is shown.value and torch.equal(result, shown.look(given)):
                return shown.given
            return mark(Timeline(self.time_steps).repeated(result / self.time_steps, axis), axis)

    def _as_current(self, value: Tensor) -> Tensor:
        with paused():
            current = super()._as_current(value)
        return mark(current, TimeAxis(0)) if value.is_floating_point() and value.dim() else current
