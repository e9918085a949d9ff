"""What a model keeps between calls holds sums over T: caches, states of convolutions and recurrences, encoder outputs.

A call that is given such tensors takes them for currents whose first step has all of it, since they are known before
the call begins: in a product with what the call computes they act as weights. Neurons of the operation that uses them
code them, as they do in a call that computes them itself.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, CacheLayerMixin, LinearAttentionCacheLayerMixin
from transformers.utils import ModelOutput

from las_sj.models.operated import Operated
from las_sj.models.operations.populations import Populations
from las_sj.models.operations.time_axis import TimeAxis, Timeline, mark, time_axis_of, unmark
from las_sj.neurons import WindowNode, watching

Change = Callable[[Tensor], Tensor]
Place = tuple[dict[str, Any], str, Any]  # attributes of an object, the name of one, and what it held
_KINDS: list[type] = [Cache, CacheLayerMixin, LinearAttentionCacheLayerMixin]


def register_state(kind: type) -> None:
    """Have objects of a type be taken for state that a model keeps: their tensors hold sums over T between calls.

    Args:
        kind: a class whose objects keep tensors [B, ...] as attributes, or in lists and dicts.
    """
    if kind not in _KINDS:
        _KINDS.append(kind)


def is_state(value: Any) -> bool:
    """Whether an object keeps tensors between calls: a cache, or what transformers calls one."""
    kind = type(value)
    named = kind.__name__.endswith(("Cache", "CacheLayer")) and kind.__module__.startswith("transformers")
    return isinstance(value, tuple(_KINDS)) or named


class KeptState:
    """The state of one call: as currents while the call is under way, as sums before and after it.

    Args:
        rows: T·B, of what the call is given; None where nobody knows.
        time_steps: T in a temporal call, else 1.
    """

    def __init__(self, rows: int | None, time_steps: int) -> None:
        self.time = Timeline(time_steps)
        self.rows = rows
        self._sums: dict[int, tuple[Tensor, Tensor]] = {}  # by the id of a current: it, and what it was made of
        self._places: list[Place] = []

    def taken(self, value: Any) -> Any:
        """What a call is given, with currents in the place of sums; states hold them until `summed`."""
        return mapped(value, self._as_current, self._places)

    def repeated(self, value: Any) -> Any:
        """Constants of the batch, such as masks of attention, for each time step."""
        return mapped(value, self._repeat, [])

    def take_attribute(self, module: nn.Module, name: str) -> None:
        """Take over what a module holds as an attribute, likewise."""
        value = vars(module).get(name)
        self._places.append((vars(module), name, value))
        vars(module)[name] = self.taken(value)

    def summed(self, value: Any) -> Any:
        """What a call gives, with sums over T in the place of currents, and one row for each sequence."""
        return mapped(value, self._as_sum, [])

    def put_back(self) -> None:
        """Have everything hold what it did before the call, which ended in an error."""
        for attributes, name, value in self._places:
            attributes[name] = value

    def _as_current(self, x: Tensor) -> Tensor:
        """A value [B, ...] as a current [T·B, ...]; what has other rows stays, and numbers are repeated."""
        steps = self.time.time_steps
        if not self._is_of_batch(x) or not (x.is_floating_point() or x.is_complex()):
            return self._repeat(x)
        current = x.view_as(x) if steps == 1 else _all_at_first(x, steps)
        self._sums[id(current)] = (current, x)
        return mark(current, TimeAxis(0))

    def _repeat(self, x: Tensor) -> Tensor:
        steps = self.time.time_steps
        return x.repeat(steps, *[1] * (x.dim() - 1)) if steps > 1 and self._is_of_batch(x) else x

    def _is_of_batch(self, x: Tensor) -> bool:
        return x.dim() > 0 and len(x) * self.time.time_steps == self.rows

    def _as_sum(self, x: Tensor) -> Tensor:
        """The sum over T of a current; written to the tensor that the current was made of, where it is that still."""
        axis, steps = time_axis_of(x), self.time.time_steps
        before = self._sums[id(x)][1] if id(x) in self._sums else None
        if steps == 1:
            return unmark(x if before is None else before)
        if isinstance(axis, TimeAxis):
            total = self.time.total(x, axis)
            return total if before is None else before.copy_(total)
        return x[: len(x) // steps] if x.dim() > 0 and len(x) == self.rows else x


def _all_at_first(x: Tensor, time_steps: int) -> Tensor:
    return torch.cat([x, x.new_zeros(((time_steps - 1) * len(x), *x.shape[1:]))])


def mapped(value: Any, change: Change, places: list[Place]) -> Any:
    """`value` with all of its tensors changed: containers are new ones, state is changed in place.

    Args:
        value: a tensor, state, a container of them, or anything else.
        change: of one tensor.
        places: gets the attributes of state that were changed, with what they held.
    """
    if isinstance(value, Tensor):
        return change(value)
    if is_state(value):
        for name, held in list(vars(value).items()):
            new = mapped(held, change, places)
            if new is not held:
                places.append((vars(value), name, held))
                vars(value)[name] = new
        return value
    if isinstance(value, ModelOutput):
        return type(value)(**{name: mapped(item, change, places) for name, item in value.items()})
    if type(value) in (tuple, list):
        return type(value)(mapped(item, change, places) for item in value)
    if type(value) is dict:
        return {name: mapped(item, change, places) for name, item in value.items()}
    return value


class _Attributes:
    """Tensors that modules hold as plain attributes, neither parameters nor buffers, since an earlier call.

    Args:
        modules: of the model that is called, neurons aside.
    """

    def __init__(self, modules: list[nn.Module]) -> None:
        self.modules = modules
        self._known = {(id(module), name): value for module, name, value in self._found()}

    def _found(self) -> list[tuple[nn.Module, str, Tensor]]:
        each = ((module, vars(module).items()) for module in self.modules)
        return [(module, name, value) for module, held in each for name, value in held if type(value) is Tensor]

    def changed(self) -> list[tuple[nn.Module, str]]:
        """Those that hold another tensor than in the beginning."""
        found = ((module, name, self._known.get((id(module), name)), value) for module, name, value in self._found())
        return [(module, name) for module, name, before, value in found if before is not value]


def _note_modules(module: nn.Module, known: dict[int, nn.Module]) -> None:
    """Note a module and those in it, each once, without neurons: many, which hold nothing between calls."""
    if id(module) in known or isinstance(module, WindowNode | Populations):
        return
    known[id(module)] = module
    for child in watching.children_of(module).values():
        if child is not None:
            _note_modules(child, known)


@contextmanager
def kept_state(operated: Operated, named: dict[str, Any], state: KeptState, model: nn.Module) -> Iterator[None]:
    """Within this context, a call, what a model keeps are currents; they are sums again at its end.

    Args:
        operated: what the conversion of the model has found.
        named: the arguments of the call, which are changed.
        state: of the call.
        model: that is called.
    """
    modules: dict[int, nn.Module] = {}
    _note_modules(model, modules)
    attributes = _Attributes(list(modules.values()))
    masks = {name: value for name, value in named.items() if name.endswith("mask")}
    given = {name: value for name, value in named.items() if not isinstance(value, Tensor) and name not in masks}
    try:
        named |= {name: state.repeated(value) for name, value in masks.items()}
        named |= {name: state.taken(value) for name, value in given.items()}
        for module, name in operated.attributes:
            state.take_attribute(module, name)
        yield
    except BaseException:
        state.put_back()
        raise
    state.summed(list(given.values()))
    operated.attributes = attributes.changed()
    for module, name in operated.attributes:
        vars(module)[name] = state.summed(vars(module)[name])
