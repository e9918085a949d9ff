"""What is known while a call of a model that is converted by operations is under way."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from las_sj.models.call import Call
from las_sj.models.execution import Execution
from las_sj.models.layers.spiking_layer import KnowsCalls
from las_sj.models.operated import Operated
from las_sj.models.operations.coded import Source
from las_sj.models.operations.lanes import Lanes
from las_sj.models.operations.partial_sums import PartialSums
from las_sj.models.operations.populations import CHILD, Populations
from las_sj.models.operations.time_axis import Timeline
from las_sj.neurons import WindowNode, watching

FULL_NAME = "full_name"


class Scope:
    """A call that is under way, for the rules of its operations.

    Args:
        execution: of the model.
        operated: what its conversion has found.
        call: of the model, or of a model inside of it.
        rows: of ids in the batch, T·B; None where nobody knows.
        batch: rows of the inputs, of ids or not.

    Attributes:
        temporal: whether the call is.
        time: arithmetic with time.
        modules: that are being called, innermost last.
        is_paused: whether torch functions are what they are, for a while.
        lanes: the operations on parts of single time steps.
        partial_sums: products that several processes make together, where they share experts.
        has_gradients: whether the call computes them.
    """

    def __init__(
        self, execution: Execution, operated: Operated, call: Call, rows: int | None, batch: int | None = None
    ) -> None:
        self.execution = execution
        self.operated = operated
        self.temporal = call.temporal
        self.time = Timeline(call.time_steps if self.temporal else 1)
        self.rows = rows
        self.batch = batch
        self.modules = [call.caller]
        self.is_paused = False
        self.lanes = Lanes()
        self.partial_sums: PartialSums | None = None
        self.has_gradients = torch.is_grad_enabled()

    def populations_of(self, module: nn.Module) -> Populations:
        """The populations of a module's operations, made where there are none."""
        populations = watching.children_of(module).get(CHILD)
        if populations is None:
            populations = Populations(self.execution)
            module.add_module(CHILD, populations)
        assert isinstance(populations, Populations)
        return populations

    def is_in_part(self, source: Source) -> bool:
        """Whether a population lies in the innermost model around an operation, which may be called or loaded alone."""
        inside = (module for module in reversed(self.modules) if isinstance(module, PreTrainedModel))
        part = full_name_of(next(inside, self.modules[0]))
        return not part or f"{source.module}.".startswith(f"{part}.")

    @staticmethod
    def name_of(module: nn.Module) -> str:
        """The full name of a module, for messages."""
        return full_name_of(module) or "the model"


def full_name_of(module: nn.Module) -> str:
    """The full name of a module in its model."""
    name: str = module.__dict__.get(FULL_NAME, "")
    return name


def populations_at(model: nn.Module, source: Source) -> Populations:
    """The populations among which there is one whose spikes are read.

    Args:
        model: converted, or a part of such a one, which it lies in.
        source: the population.
    """
    inside = source.module.removeprefix(full_name_of(model)).removeprefix(".")
    populations = watching.children_of(model.get_submodule(inside))[CHILD]
    assert isinstance(populations, Populations)
    return populations


def node_of(model: nn.Module, source: Source) -> WindowNode:
    """The population whose spikes are read; arguments are those of `populations_at`."""
    node = getattr(populations_at(model, source), source.population)
    assert isinstance(node, WindowNode)
    return node


_ACTIVE: ContextVar[Scope | None] = ContextVar("las_sj_operations", default=None)


def active() -> Scope | None:
    """The innermost call under way in this thread of a model that is converted by operations."""
    return _ACTIVE.get()


@contextmanager
def entered(scope: Scope) -> Iterator[None]:
    """Within this context a call is under way."""
    before = _ACTIVE.set(scope)
    try:
        yield
    finally:
        _ACTIVE.reset(before)


@contextmanager
def paused() -> Iterator[None]:
    """Within this context torch functions are what they are, in a call of a model converted by operations too."""
    scope = active()
    if scope is None or scope.is_paused:
        yield
        return
    scope.is_paused = True
    try:
        yield
    finally:
        scope.is_paused = False


class HasOperations(KnowsCalls):
    """Mixin of all modules of a model that is converted by operations: those in its forward method are its own."""

    full_name: str = ""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        scope = active()
        if scope is None:
            return super().__call__(*args, **kwargs)
        scope.modules.append(self)
        try:
            return super().__call__(*args, **kwargs)
        finally:
            scope.modules.pop()


BOUNDARY = HasOperations.__call__.__code__  # the code that calls a module
