"""Gradient checkpointing: layers that are computed again in backward find the call that they belong to."""

from collections.abc import Callable
from functools import partial
from typing import Any

from las_sj.models.call import Call, again
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
        call = self.execution.call
        return partial(_checkpoint, self.__dict__[name], None if call is None else call.kept())

    @_gradient_checkpointing_func.setter
    def _gradient_checkpointing_func(self, function: Function) -> None:
        self.__dict__["_gradient_checkpointing_func"] = function


def _checkpoint(checkpoint: Function, call: Call | None, function: Function, *args: Any, **kwargs: Any) -> Any:
    return checkpoint(partial(_run, call, function), *args, **kwargs)


def _run(call: Call | None, function: Function, *args: Any) -> Any:
    if not watching.in_backward():
        return function(*args)
    with again(call):
        return function(*args)
