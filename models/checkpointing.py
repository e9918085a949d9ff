"""Gradient checkpointing: layers that are computed again in backward find the call that they belong to."""

from collections.abc import Callable
from functools import partial
from typing import Any

from las_sj.models.call import Call, under_way
from las_sj.models.dropout import one_mask_a_window
from las_sj.models.layers.spiking_layer import KnowsCalls
from las_sj.neurons import watching

Function = Callable[..., Any]


class FindsItsCall(KnowsCalls):
    """Mixin of transformers' `GradientCheckpointingLayer`, which asks for a checkpointing function at each call.

    It is handed one that remembers the call under way.
    """

    @property
    def _gradient_checkpointing_func(self) -> Function:
        name = "_gradient_checkpointing_func"
        if name not in self.__dict__:
            raise AttributeError(name)
        return partial(_checkpoint, self.__dict__[name], partial(_run, self, self.execution.call))

    @_gradient_checkpointing_func.setter
    def _gradient_checkpointing_func(self, function: Function) -> None:
        self.__dict__["_gradient_checkpointing_func"] = function


def _checkpoint(checkpoint: Function, run: Function, function: Function, *args: Any, **kwargs: Any) -> Any:
    return checkpoint(partial(run, function), *args, **kwargs)


def _run(layer: KnowsCalls, call: Call | None, function: Function, *args: Any) -> Any:
    """Run a layer in a forward pass, in which its call is under way, or once more in backward."""
    if call is None or not watching.in_backward():
        return function(*args)
    with under_way(call), one_mask_a_window(layer, call.time_steps, call.temporal):
        return function(*args)
