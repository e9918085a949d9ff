"""What config.json says of the populations of a model that was converted by operations, checked as it is read."""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from torch import nn

from las_sj.checkpoint.broken import BrokenCheckpointError
from las_sj.models.operations.populations import Kind, Reading
from las_sj.neurons import FUNCTIONS

_BY_MODULE = ("populations", "norms", "decisions", "analog")
_PARTS = (*_BY_MODULE, "attention")
_FEEDS = ("weights", "product", "neuron")
_TITLE = re.compile(r"[A-Za-z_]\w*")
_KIND = {field.name for field in fields(Kind)}
_READING = {field.name for field in fields(Reading)}


# Of kinds and of readings: where spikes go.
_USES: dict[str, Callable[[Any], bool]] = {
    "feeds": lambda value: value in _FEEDS,
    "synapses": lambda value: value is None or (type(value) is int and value > 0),
    "is_mac": lambda value: type(value) is bool,
}


def check_operations(entry: Any) -> None:
    """Raise a BrokenCheckpointError where the entry is none that `entry_of` returns."""
    parts = _mapping("operations", entry)
    if sorted(parts) != sorted(_PARTS):
        raise _broken("operations", f"must have {', '.join(_PARTS)}, got {', '.join(map(str, parts)):.40}")
    for module, populations in _mapping("populations", parts["populations"]).items():
        _check_populations(f"the populations of {module or 'the model'}", populations)
    _check_readings(parts["populations"])
    for module, form in _mapping("norms", parts["norms"]).items():
        _check_norm(f"the norm {module}", _mapping("norms", form))
    _check_functions("decisions", parts["decisions"])
    if parts["analog"] is not None:
        _check_functions("analog", parts["analog"])
    if parts["attention"] not in ("eager", "sdpa"):
        raise _broken("attention", f"must be eager or sdpa, got {str(parts['attention'])[:40]!r}")


def _check_norm(what: str, form: Mapping[str, Any]) -> None:
    checks: dict[str, Callable[[Any], bool]] = {
        "gains": _is_title,
        "adds_one": lambda value: type(value) is bool,
        "centres": lambda value: type(value) is bool,
        "epsilon": lambda value: value is not None and _is_size(value),
    }
    if set(form) != set(checks):
        raise _broken(what, f"must have {', '.join(checks)}")
    _check_settings(what, form, checks)


def _check_functions(what: str, by_module: Any) -> None:
    for module, functions in _mapping(what, by_module).items():
        if not isinstance(functions, list | tuple) or not all(isinstance(name, str) for name in functions):
            raise _broken(f"{what} of {module}", "must be names of functions")


def _check_populations(what: str, populations: Any) -> None:
    populations = _mapping(what, populations)
    if sorted(populations) != ["kinds", "names", "readings"]:
        raise _broken(what, "must have names, kinds and readings")
    titles = _mapping(what, populations["names"])
    for place, title in titles.items():
        if "@" not in place or not _is_title(title):
            raise _broken(what, f"name an operation {str(title)[:40]!r}")
    for part, check in (("kinds", _check_kind), ("readings", _check_reading)):
        for name, kind in _mapping(what, populations[part]).items():
            if not _is_title(name) or not any(f"{name}_".startswith(f"{title}_") for title in titles.values()):
                raise _broken(what, f"have neurons {str(name)[:40]!r} that belong to no operation")
            check(f"{name}, of {what},", _mapping(what, kind))


def _check_readings(populations: Mapping[str, Any]) -> None:
    """Raise where spikes are read that no population emits."""
    for module, values in populations.items():
        for name, reading in values["readings"].items():
            where, population = reading["source"]
            emits = populations.get(where, {"kinds": {}})["kinds"].get(population)
            if emits is None or emits["function"]:
                raise _broken(f"{name}, of {module or 'the model'},", f"reads spikes of {where} {population:.40}")


def _check_reading(what: str, reading: Mapping[str, Any]) -> None:
    if set(reading) != _READING:
        raise _broken(what, f"must have {', '.join(sorted(_READING))}")
    source = reading["source"]
    if not isinstance(source, list | tuple) or len(source) != 2 or not all(isinstance(part, str) for part in source):
        raise _broken(what, f"has source {str(source)[:40]!r}")
    _check_settings(what, reading, _USES)


def _check_kind(what: str, kind: Mapping[str, Any]) -> None:
    checks: dict[str, Callable[[Any], bool]] = {
        **_USES,
        "function": lambda value: value == "" or value in FUNCTIONS,
        "upper_bound": _is_size,
        "epsilon": _is_size,
        "additions": lambda value: type(value) is int and value >= 0,
        "native": lambda value: value in ("", "norm", "softmax") or value in FUNCTIONS,
        "tolerance": lambda value: value is None or (type(value) is float and 1e-7 <= value <= 0.1),
    }
    if set(kind) != _KIND:
        raise _broken(what, f"must have {', '.join(sorted(_KIND))}")
    _check_settings(what, kind, checks)


def _check_settings(what: str, settings: Mapping[str, Any], checks: Mapping[str, Callable[[Any], bool]]) -> None:
    for setting, check in checks.items():
        if not isinstance(settings[setting], str | int | float | None) or not check(settings[setting]):
            raise _broken(what, f"has {setting} {str(settings[setting])[:40]!r}")


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
    known = {name for name, _ in model.named_modules(remove_duplicate=False)}
    is_inside = prefix.rstrip(".") not in known and any(f"{name}.".startswith(prefix) for name in entry["populations"])
    if is_inside:
        parts = {part: entry[part] and dict(_inside(entry[part], prefix)) for part in _BY_MODULE}
        own = {name: _from_inside(populations, prefix) for name, populations in parts["populations"].items()}
        return parts | {"populations": own, "attention": entry["attention"]}
    for name in (*entry["populations"], *entry["norms"]):
        if name not in known:
            raise BrokenCheckpointError(
                f"config.json has neurons of operations in {name}, which {type(model).__name__} has not: "
                "load the class that was saved, or convert the model again"
            )
    return {part: entry[part] for part in _PARTS}


def _inside(named: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    return [(f"{name}."[len(prefix) : -1], value) for name, value in named.items() if f"{name}.".startswith(prefix)]


def _from_inside(populations: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Populations whose neighbours are named as in a model that is inside of the one that was saved."""
    readings = {}
    for name, reading in populations["readings"].items():
        where, population = reading["source"]
        readings[name] = reading | {"source": (f"{where}."[len(prefix) : -1], population)}
    return {**populations, "readings": readings}


def upgraded(entry: Any) -> Any:
    """The entry of a checkpoint of format 3, in which every operation, of norms too, had neurons of its own."""
    if isinstance(entry, Mapping) and isinstance(entry.get("populations"), Mapping):
        own = {
            name: {"readings": {}, **values} if isinstance(values, Mapping) else values
            for name, values in entry["populations"].items()
        }
        return {"norms": {}, "attention": "eager", **entry, "populations": own}
    return entry
