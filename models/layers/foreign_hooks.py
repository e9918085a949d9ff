"""Hooks that others put on the modules of a converted model: they see values, as in the ANN, in both executions.

A hook that adds a vector to a layer's output would otherwise add it at every time step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from las_sj.models.call import under_way
from las_sj.models.layers.foreign_view import ForeignView
from las_sj.models.passive import makes_constants

Hook = Callable[..., Any]
Foreign = TypeVar("Foreign")
# Those of las_sj, SpikingJelly and NeuroBench know time. Those of transformers keep outputs, which are summed at the
# call's end; those of torch change weights.
_KNOW_TIME = (
    "las_sj.",
    "spikingjelly.",
    "neurobench.",
    "transformers.utils.output_capturing.",
    "torch.distributed.",
    "torch.nn.utils.",
)
_MARK = "las_sees_currents"


def sees_currents(foreign: Foreign) -> Foreign:
    """Mark a forward hook or pre-hook, or a module or its class, as one that knows time.

    In a temporal call it is given currents [T·B, ...], t-major. Others that are put on or into a converted model see
    sums over T, as in the ANN; hooks on neurons always see trains.
    """
    setattr(foreign, _MARK, True)
    return foreign


def knows_time(foreign: object) -> bool:
    """Whether a hook or a module is marked as one that knows time."""
    return getattr(foreign, _MARK, False) is True


def hook_of_values(hook: Hook, kind: "type[ForeignPreHook | ForeignForwardHook]", with_kwargs: bool) -> Hook:
    """The hook to put on a module in place of `hook`.

    Args:
        hook: what somebody registers.
        kind: whether it runs before or after the module.
        with_kwargs: whether it takes keyword arguments.
    """
    module = getattr(hook, "__module__", None) or ""
    if knows_time(hook) or isinstance(hook, ForeignHook) or f"{module}.".startswith(_KNOW_TIME):
        return hook
    return kind(hook, with_kwargs)


@dataclass(frozen=True)
class ForeignHook:
    """A hook that knows nothing of time.

    While it runs no call is under way: what it calls of the model is a call of its own.

    Args:
        hook: the hook.
        with_kwargs: whether it takes keyword arguments.
    """

    hook: Hook
    with_kwargs: bool

    def run(self, *arguments: Any) -> Any:
        """What the hook returns."""
        with under_way(None):
            return self.hook(*arguments)


class ForeignPreHook(ForeignHook):
    """A hook that runs before a module; torch hands it keyword arguments, whether it takes them or not."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        view = _view(module, args, kwargs)
        seen = (args, kwargs) if view is None else view.arguments(args, kwargs)
        result = self.run(module, *(seen if self.with_kwargs else seen[:1]))
        if not self.with_kwargs and result is not None:
            result = (result if isinstance(result, tuple) else (result,)), seen[1]
        return result if view is None else view.answer((args, kwargs), seen if result is None else result)


class ForeignForwardHook(ForeignHook):
    """A hook that runs after a module; torch hands it keyword arguments, whether it takes them or not."""

    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        view = _view(module, args, kwargs)
        seen = (args, kwargs) if view is None else view.arguments(args, kwargs)
        shown = output
        if view is not None:
            shown = view.outputs(output, "constants" if makes_constants(module) else module.returns)
        result = self.run(module, *(seen if self.with_kwargs else seen[:1]), shown)
        return result if view is None else view.answer(output, shown if result is None else result)


def _view(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ForeignView | None:
    """The view at a module in a temporal call; None outside of one."""
    execution = module.execution
    call = execution.call
    if execution.operated is not None:
        return execution.operated.view()  # type: ignore[no-any-return]
    if call is None or not call.temporal or execution.lanes is not None:
        return None  # lanes carry values as they are
    return ForeignView.at(execution.time_steps, call.batch, args, kwargs)
