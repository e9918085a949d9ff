"""What config.json says of the populations of a model that was converted by operations, checked as it is read."""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from torch import nn

from las_sj.checkpoint.broken import BrokenCheckpointError
from las_sj.models.operations.populations import Kind
from las_sj.neurons import FUNCTIONS

_PARTS = ("populations", "decisions", "analog")
_FEEDS = ("weights", "product", "neuron")
_TITLE = re.compile(r"[A-Za-z_]\w*")
_KIND = {field.name for field in fields(Kind)}


def check_operations(entry: Any) -> None:
    """Raise a BrokenCheckpointError where the entry is none that `entry_of` returns."""
    parts = _mapping("operations", entry)
    if sorted(parts) != sorted(_PARTS):
        raise _broken("operations", f"must have {', '.join(_PARTS)}, got {', '.join(map(str, parts)):.40}")
    for module, populations in _mapping("populations", parts["populations"]).items():
        _check_populations(f"the populations of {module or 'the model'}", populations)
    _check_functions("decisions", parts["decisions"])
    if parts["analog"] is not None:
        _check_functions("analog", parts["analog"])


def _check_functions(what: str, by_module: Any) -> None:
    for module, functions in _mapping(what, by_module).items():
        if not isinstance(functions, list | tuple) or not all(isinstance(name, str) for name in functions):
            raise _broken(f"{what} of {module}", "must be names of functions")


def _check_populations(what: str, populations: Any) -> None:
    populations = _mapping(what, populations)
    if sorted(populations) != ["kinds", "names"]:
        raise _broken(what, "must have names and kinds")
    titles = _mapping(what, populations["names"])
    for place, title in titles.items():
        if "@" not in place or not _is_title(title):
            raise _broken(what, f"name an operation {str(title)[:40]!r}")
    for name, kind in _mapping(what, populations["kinds"]).items():
        if not _is_title(name) or not any(name == title or name.startswith(f"{title}_") for title in titles.values()):
            raise _broken(what, f"have neurons {str(name)[:40]!r} that belong to no operation")
        _check_kind(f"{name}, of {what},", _mapping(what, kind))


def _check_kind(what: str, kind: Mapping[str, Any]) -> None:
    checks: dict[str, Callable[[Any], bool]] = {
        "function": lambda value: value == "" or value in FUNCTIONS,
        "feeds": lambda value: value in _FEEDS,
        "upper_bound": _is_size,
        "epsilon": _is_size,
        "synapses": lambda value: value is None or (type(value) is int and value > 0),
        "is_mac": lambda value: type(value) is bool,
        "additions": lambda value: type(value) is int and value >= 0,
        "native": lambda value: value in ("", "norm", "softmax") or value in FUNCTIONS,
    }
    if set(kind) != _KIND:
        raise _broken(what, f"must have {', '.join(sorted(_KIND))}")
    for setting, check in checks.items():
        if not isinstance(kind[setting], str | int | float | None) or not check(kind[setting]):
            raise _broken(what, f"has {setting} {str(kind[setting])[:40]!r}")


def _is_title(value: Any) -> bool:
    return isinstance(value, str) and _TITLE.fullmatch(value) is not None


def _is_size(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 < value < float("inf"))


def _mapping(what: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise _broken(what, f"must be named, got {str(value)[:40]!r}")
    return value


def _broken(what: str, why: str) -> BrokenCheckpointError:
    return BrokenCheckpointError(f"{what} {why}: the checkpoint is broken")


def operations_in(model: nn.Module, entry: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The part of an entry that a model has modules for.

    Args:
        model: of the class that was saved, or what is inside of one.
        entry: of the model that was saved.
        prefix: of names in that model, where the one that is loaded is inside of it.

    Raises:
        BrokenCheckpointError: it names a module that the model has not.
    """
    known = {name for name, _ in model.named_modules()}
    is_inside = prefix.rstrip(".") not in known and any(f"{name}.".startswith(prefix) for name in entry["populations"])
    if is_inside:
        return {part: entry[part] and dict(_inside(entry[part], prefix)) for part in _PARTS}
    for name in entry["populations"]:
        if name not in known:
            raise BrokenCheckpointError(
                f"config.json has neurons of operations in {name}, which {type(model).__name__} has not: "
                "load the class that was saved, or convert the model again"
            )
    return {part: entry[part] for part in _PARTS}


def _inside(named: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    return [(f"{name}."[len(prefix) : -1], value) for name, value in named.items() if f"{name}.".startswith(prefix)]
