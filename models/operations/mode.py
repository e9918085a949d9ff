"""Torch functions are intercepted during a call: what is done to a current follows from the rule of the function."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import las_sj.models.operations.rules  # noqa: F401  registers the rules
from las_sj.models.call import Call
from las_sj.models.execution import Execution
from las_sj.models.inputs import source_of
from las_sj.models.operations.all_steps import run_in_lanes
from las_sj.models.operations.coded import coded_of, keep_coded
from las_sj.models.operations.one_step import (
    OperationOfOneStep,
    at_step,
    joined,
    know_later_steps,
    later_steps,
    steps_in,
)
from las_sj.models.operations.operation import Operation
from las_sj.models.operations.positions import is_position, note_positions
from las_sj.models.operations.registry import RULES, Rule
from las_sj.models.operations.rules.looks import QUESTIONS, look
from las_sj.models.operations.rules.writes import WRITES
from las_sj.models.operations.scope import FULL_NAME, Scope, entered
from las_sj.models.operations.sorting import sorted_like_one_step
from las_sj.models.operations.state import KeptState, kept_state
from las_sj.models.operations.time_axis import OneStep, TimeAxis, alike, mark, mark_written, time_axis_of
from las_sj.models.registry import UnsupportedModelError

_SEQUENCES = (tuple, list)


class Operations(TorchFunctionMode):
    """Runs the torch functions of one call of a model by their rules.

    Args:
        scope: of the call.
    """

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self.scope = scope

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[Any], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if self.scope.is_paused or name_of(func) in QUESTIONS:
            return func(*args, **kwargs)
        if not _holds_current(args) and not _holds_current(kwargs.values()):
            return self._of_constants(func, args, kwargs)
        return self._by_rule(func, args, kwargs, sys._getframe(1))

    def _of_constants(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """What a function of constants returns; the embeddings of a batch are currents."""
        name = name_of(func)
        in_order = sorted_like_one_step(name, func, args, kwargs, self.scope.time.time_steps)
        if in_order is not None:
            return in_order[1] if name == "argsort" else torch.return_types.sort(in_order)
        output = self._counted(name, func, args, kwargs)
        note_positions(name, (*args, *kwargs.values()), output)
        if name == "embedding":
            ids = args[0] if args else kwargs["input"]
            if ids.dim() > 1 and len(ids) == self.scope.rows and not is_position(ids):
                return mark(output / self.scope.time.time_steps, TimeAxis(0))
        return output

    def _counted(self, name: str, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        scope, dense = self.scope, self.scope.operated.dense
        if dense is None:
            return func(*args, **kwargs)
        place = (scope.modules[-1].__dict__.get(FULL_NAME, ""), name)
        repeats = any(scope.batch in x.shape for x in (*args, *kwargs.values()) if isinstance(x, Tensor))
        return dense.run_on_constants(place, func, args, kwargs, scope.time.time_steps if repeats else 1)

    def _by_rule(self, func: Callable[..., Any], args: Any, kwargs: Any, frame: FrameType) -> Any:
        name = name_of(func)
        plain = name if name in RULES else name.rstrip("_")
        known = RULES.get(plain)
        steps = [*steps_in(args), *steps_in(kwargs.values())] if self.scope.temporal else []
        operation = Operation(self.scope, plain, func, frame)
        if len(set(steps)) > 1:
            return joined(operation, *args, **kwargs)
        if known is None:
            raise UnsupportedModelError(f"no spiking form of {name} ({operation.where})")
        if not args and "input" in kwargs:
            args = (kwargs.pop("input"),)
        in_place = kwargs.pop("inplace", False) or plain != name
        target = args[0] if in_place else None
        if in_place and name not in WRITES:
            args = (_kept_for_gradient(args[0]), *args[1:])
        if known.is_composite:
            with self:
                output = known.run(*args, **kwargs)
        elif steps:
            output = self._of_one_step(known, operation, steps[0], args, kwargs)
        else:
            output = known.run(operation, *args, **kwargs)
            if self.scope.partial_sums is not None:
                self.scope.partial_sums.complete(plain, args, output)
            self._count(operation, args, kwargs, output)
        return output if target is None else _written(target, output)

    def _of_one_step(self, known: Rule, operation: Operation, step: OneStep, args: Any, kwargs: Any) -> Any:
        """An operation on parts of the batch; what is written into a whole tensor is written step by step."""
        alone = OperationOfOneStep(operation, step)
        if known.run is look or (operation.name in WRITES and not isinstance(time_axis_of(args[0]), OneStep)):
            return known.run(alone, *args, **kwargs)
        if _holds_whole((*args, *kwargs.values())):
            raise operation.refusal("of a whole batch and a part of it")
        output = run_in_lanes(operation, known, step.step, args, kwargs)
        if not step.step:
            self._count(alone, args, kwargs, output)
        return output

    def _count(self, operation: Operation, args: Any, kwargs: Any, output: Any) -> None:
        """Have what needs no neurons counted, where somebody does."""
        dense = self.scope.operated.dense
        call = None if dense is None else self.scope.execution.call
        if dense is None or call is None:
            return
        share = call.live_share / operation.time_steps
        place = (operation.module.__dict__.get(FULL_NAME, ""), operation.name)
        dense.add(place, args, kwargs, output, operation.is_current, share)


@lru_cache(maxsize=4096)
def name_of(func: Callable[..., Any]) -> str:
    """The name of a torch function or method, or of the attribute that a getter returns."""
    name: str = getattr(func, "__name__", str(func))
    return func.__self__.__name__ if name == "__get__" else name  # type: ignore[attr-defined]


def _holds_current(values: Iterable[Any]) -> bool:
    for value in values:
        if isinstance(value, Tensor):
            if time_axis_of(value) is not None:
                return True
        elif isinstance(value, _SEQUENCES) and _holds_current(value):
            return True
    return False


def _holds_whole(values: Iterable[Any]) -> bool:
    """Whether a current of all time steps is among them."""
    for value in values:
        if isinstance(value, _SEQUENCES):
            if _holds_whole(value):
                return True
        elif isinstance(time_axis_of(value), TimeAxis):
            return True
    return False


def _kept_for_gradient(target: Tensor) -> Tensor:
    """What a function in place is given: a copy where a gradient needs what it has before it is written over."""
    if not (torch.is_grad_enabled() and target.requires_grad):
        return target
    copy = know_later_steps(alike(target, target.clone()), later_steps(target))
    coded = coded_of(target)
    if coded is not None:
        keep_coded(copy, replace(coded))
    return copy


def _written(target: Tensor, output: Tensor) -> Tensor:
    """What a function in place returns: its first argument, which holds the output."""
    if output is target:
        return output
    axis = time_axis_of(output)
    for step in range(1, len(later_steps(output)) + 1):
        at_step(target, step).copy_(at_step(output, step))
    target.copy_(output)
    return target if axis is None else mark_written(target, axis)


def intercepted(
    execution: Execution, call: Call, named: dict[str, Any], values: Iterable[str]
) -> AbstractContextManager[Any]:
    """Within this context the torch functions of a call run by their rules, where the model is converted so.

    Args:
        execution: of the model.
        call: which has begun.
        named: its arguments, repeated where the call is temporal; float inputs become currents.
        values: names of the float inputs.
    """
    if execution.operated is None:
        return nullcontext()
    return _running(execution, call, named, values)


@contextmanager
def _running(execution: Execution, call: Call, named: dict[str, Any], values: Iterable[str]) -> Iterator[None]:
    inputs: list[int] = []
    for name in values:
        value = named.get(name)
        if isinstance(value, Tensor) and value.is_floating_point():
            value = named[name] = mark(value.view_as(value), TimeAxis(0))
            inputs.append(len(value))
    source = source_of(named)
    rows = None if source is None else len(source)
    assert execution.operated is not None
    scope = Scope(execution, execution.operated, call, rows, batch=next(iter(inputs), rows))
    state = KeptState(rows, scope.time.time_steps)
    with kept_state(execution.operated, named, state, call.caller), entered(scope), Operations(scope):
        yield
