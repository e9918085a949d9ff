"""Parts that stay analog in a model that is converted by operations."""

from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatch
from typing import Any

from torch import Tensor, nn

from las_sj.models.call import Call, under_way
from las_sj.models.execution import Execution
from las_sj.models.layers import attention
from las_sj.models.layers.analog import AnalogIsland
from las_sj.models.layers.spiking_layer import KnowsCalls, become
from las_sj.models.neuron_factory import NeuronFactory
from las_sj.models.operations.scope import Scope, active, paused
from las_sj.models.operations.time_axis import TimeAxis, mark, time_axis_of
from las_sj.models.passive import is_passive
from las_sj.models.registry import UnsupportedModelError

REASON = "kept analog by request"


def keep_islands(model: nn.Module, patterns: Iterable[str], factory: NeuronFactory, execution: Execution) -> None:
    """Make the modules that patterns (as in fnmatch) name analog islands, with all that is in them.

    Raises:
        UnsupportedModelError: a pattern names no module that computes.
    """
    config: Any = getattr(model, "config", None)
    for pattern in patterns:
        named = [(name, module) for name, module in model.named_modules() if name and fnmatch(name, pattern)]
        matches = [(name, module) for name, module in named if not is_passive(module)]
        if not matches:
            raise UnsupportedModelError(f"keep_analog: {pattern!r} names no module that computes by itself")
        for name, module in matches:
            if not any(name.startswith(f"{other}.") for other, _ in matches):
                become(module, AnalogIsland, factory, execution, config)
                for part in module.modules():
                    part.__dict__[attention.ANALOG] = True


class RunsOutside(KnowsCalls):
    """Mixin of an analog island: in a call of the model it runs on values, as in the ANN."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        scope = active()
        if scope is None or scope.is_paused:
            return super().__call__(*args, **kwargs)
        return run_island(scope, self, super().__call__, args, kwargs)


def run_island(scope: Scope, module: nn.Module, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call an analog part with sums over T; what it returns are constant currents.

    Args:
        scope: of the call.
        module: the part.
        run: its call.
        args, kwargs: of the call, currents among them.

    Raises:
        UnsupportedModelError: it is given currents that do not hold time in their first dimension.
    """
    axes = {axis for axis in map(time_axis_of, _tensors_in((args, kwargs))) if axis is not None}
    if scope.time.time_steps > 1 and axes - {TimeAxis(0)}:
        raise UnsupportedModelError(f"{scope.name_of(module)} cannot stay analog: the batch is not its first dimension")
    before = scope.execution.call
    assert before is not None
    inside = Call(before.identity, module, False, before.time_steps, before, before.token_mask, is_entry=False)
    with paused(), under_way(inside):
        shown_args, shown_kwargs = _each(lambda x: _shown(scope, x), (args, kwargs))
        output = run(*shown_args, **shown_kwargs)
        return _each(lambda x: _as_current(scope, x), output) if axes else output


def _shown(scope: Scope, x: Tensor) -> Tensor:
    """The sum over T of a current; of a constant with a row for each step, the first share."""
    axis = time_axis_of(x)
    if axis is not None:
        return scope.time.total(x, axis)
    return scope.time.share(x, TimeAxis(0)) if x.dim() and len(x) == scope.rows else x


def _as_current(scope: Scope, x: Tensor) -> Tensor:
    if not x.is_floating_point() or x.dim() == 0:
        return x
    return mark(scope.time.repeated(x / scope.time.time_steps, TimeAxis(0)), TimeAxis(0))


def _each(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """A structure with each of its tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        items = {name: _each(change, item) for name, item in value.items()}
        return items if type(value) is dict else type(value)(**items)
    return type(value)(_each(change, item) for item in value) if type(value) in (tuple, list) else value


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | tuple | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(item)
