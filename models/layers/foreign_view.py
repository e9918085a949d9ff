"""What code that knows nothing of time sees of a temporal call: currents summed up; its answers are currents again."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from itertools import repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from las_sj.models.inputs import OF_IMAGES

_BOUNDS = ("cu_seqlens",)  # where images begin, and where the last one ends


class Shown(NamedTuple):
    """Something that foreign code was shown, and how it follows from what is there."""

    given: Tensor  # which must live as long as its id is known
    value: Tensor
    look: Callable[[Tensor], Tensor]
    is_current: bool


class ForeignView:
    """The values of one temporal call at one place, as in a call of the ANN.

    Args:
        time_steps: T.
        rows: T·B, of the currents there; None where nothing tells.
    """

    def __init__(self, time_steps: int, rows: int | None) -> None:
        self.time_steps = time_steps
        self.rows = rows
        self._shown: dict[int, Shown] = {}

    @classmethod
    def at(cls, time_steps: int, batch: int | None, *arguments: Any) -> "ForeignView":
        """The view at a module that is called with `arguments`, of which the first float tensor is a current.

        Args:
            time_steps: T.
            batch: B of the call; what has as many rows is a sum already, as after a readout. None where nobody knows.
            arguments: of the module.
        """
        tensors = [value for value in _tensors_in(arguments) if value.dim() > 0]
        first = next((value for value in tensors if value.is_floating_point()), next(iter(tensors), None))
        rows = None if first is None or len(first) == batch or len(first) % time_steps else len(first)
        return cls(time_steps, rows)

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call: its first float tensor is a current; of others, the share of one step is shown."""
        floats = (value for value in _tensors_in((args, kwargs)) if value.is_floating_point() and value.dim() > 0)
        current = next(floats, None) if self.rows is not None else None
        return tuple(self._argument("", item, current) for item in args), {
            name: self._argument(name, item, current) for name, item in kwargs.items()
        }

    def _argument(self, name: str, value: Any, current: Tensor | None) -> Any:
        if isinstance(value, Tensor) and value.dim() > 0:
            if value is current:
                return self._show(value, self._sum, True)
            if name in _BOUNDS:
                return value[: (len(value) - 1) // self.time_steps + 1]
            repeated = len(value) == self.rows or name in OF_IMAGES
            return self._show(value, self._share, False) if repeated else value
        return _each(lambda item: self._argument(name, item, current), value)

    def outputs(self, value: Any, kind: str = "currents") -> Any:
        """What a module returned, as in a call of the ANN; what is neither current nor constant as it is.

        Args:
            value: float tensors [T·B, ...], in any structure.
            kind: "currents", which are summed; "constants", of which the share of one step is shown; or "constant
                currents", which may have one row for all sequences.
        """
        if not isinstance(value, Tensor):
            return _each(lambda item: self.outputs(item, kind), value)
        if not value.is_floating_point() or value.dim() == 0:
            return value
        if len(value) != self.rows:
            return self._show(value, self._times_steps, True) if kind == "constant currents" else value
        return self._show(value, self._share, False) if kind == "constants" else self._show(value, self._sum, True)

    def answer(self, given: Any, result: Any, name: str = "") -> Any:
        """What foreign code made of what it was shown, for the rest of the temporal call.

        What it left alone is given back as it was; a new value is a constant current, or is repeated where it stands
        for something that is no current, such as a mask.

        Args:
            given: what is there in the temporal call.
            result: what foreign code returned in its place.
            name: of the argument, if it has one.

        Raises:
            TypeError: an object holds tensors where they cannot be found.
        """
        if isinstance(result, Tensor):
            return self._answer(self._shown.get(id(given)), given, result, name)
        if isinstance(result, dict):
            before = given if isinstance(given, dict) else {}
            answers = {key: self.answer(before.get(key), item, key) for key, item in result.items()}
            return type(result)(**answers) if isinstance(result, ModelOutput) else answers
        if result is not given:
            _refuse_hidden_tensors(result)
        items = _items_of(given)
        places = iter(items) if len(items) == len(_items_of(result)) else repeat(None)
        return _each(lambda item: self.answer(next(places), item, name), result)

    def _answer(self, shown: Shown | None, given: Any, result: Tensor, name: str) -> Tensor:
        if shown is not None:
            if result is shown.value and torch.equal(result, shown.look(shown.given)):  # it was not changed in place
                return shown.given
            return self._as_current(result) if shown.is_current else self._repeat(result)
        if isinstance(given, Tensor):
            return result
        if result.is_floating_point() and "mask" not in name:
            return self._as_current(result)
        is_of_batch = result.dim() > 0 and len(result) * self.time_steps == self.rows
        return self._repeat(result) if is_of_batch else result

    def as_currents(self, value: Any) -> Any:
        """Each float tensor [B, ...] of what foreign code returned as constant currents [T·B, ...].

        Raises:
            TypeError: an object holds tensors where they cannot be found.
        """
        if isinstance(value, Tensor):
            return self._as_current(value)
        _refuse_hidden_tensors(value)
        return _each(self.as_currents, value)

    def _as_current(self, value: Tensor) -> Tensor:
        if not value.is_floating_point():
            return value
        share = value / self.time_steps
        return share if self.rows is None or value.dim() == 0 else self._repeat(share)

    def _repeat(self, value: Tensor) -> Tensor:
        return value.repeat(self.time_steps, *[1] * (value.dim() - 1))

    def _share(self, value: Tensor) -> Tensor:
        return value[: len(value) // self.time_steps].clone()

    def _sum(self, value: Tensor) -> Tensor:
        return value.unflatten(0, (self.time_steps, -1)).sum(0)

    def _times_steps(self, value: Tensor) -> Tensor:
        return value * self.time_steps

    def _show(self, given: Tensor, look: Callable[[Tensor], Tensor], is_current: bool) -> Tensor:
        shown = self._shown[id(given)] = Shown(given, look(given), look, is_current)
        return shown.value


def _each(change: Callable[[Any], Any], value: Any) -> Any:
    """A structure of the same kind with each of its items changed, in their order; what is no structure as it is."""
    if isinstance(value, ModelOutput):
        return type(value)(**{name: change(item) for name, item in value.items()})
    if type(value) is dict:
        return {name: change(item) for name, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(change, value))
    if type(value) in (tuple, list):
        return type(value)(map(change, value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: change(getattr(value, field.name)) for field in fields(value)})
    return value


def _refuse_hidden_tensors(value: Any) -> None:
    """Raise where an object holds tensors, and is no structure whose items are known."""
    hidden = any(isinstance(item, Tensor) for item in getattr(value, "__dict__", {}).values())
    if hidden and not _items_of(value):
        raise TypeError(
            f"{type(value).__name__} holds tensors of a temporal call that las_sj cannot find: return tensors, tuples, "
            "lists, dicts or dataclasses, or mark what returns it with las_sj.models.sees_currents"
        )


def _items_of(value: Any) -> list[Any]:
    """What `_each` changes, in its order."""
    items: list[Any] = []

    def keep(item: Any) -> Any:
        items.append(item)
        return item

    _each(keep, value)
    return items


def _tensors_in(value: Any) -> list[Tensor]:
    """The tensors in nested arguments, in their order."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for item in _items_of(value) for tensor in _tensors_in(item)]
