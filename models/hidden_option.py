"""Options of a model's config that a spiking layer has taken over: modelling code must not follow them too."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from torch import nn

from las_sj.models.call import innermost

CONFIG_IN_CALLS = "las_config_in_calls"  # the attribute of a model with hidden options that holds what compilers see


class HiddenOption:
    """An attribute of a config, None while a call of a model with this config is under way in this thread.

    The value itself stays where it was, so that it is saved, copied and read outside of calls as before.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, config: Any, owner: type) -> Any:
        if config is None:
            return self
        call = innermost()
        while call is not None:
            if getattr(call.caller, "config", None) is config:
                return None
            call = call.outer
        return config.__dict__.get(self.name)

    def __set__(self, config: Any, value: Any) -> None:
        config.__dict__[self.name] = value


class AlwaysHidden:
    """An attribute of a config that is None to everybody."""

    def __get__(self, config: Any, owner: type) -> None:
        return None

    def __set__(self, config: Any, value: Any) -> None:
        raise AttributeError("a spiking layer has taken this option over")


def keep_config_in_calls(model: nn.Module) -> None:
    """Keep a config of a model that compilers read in the place of its own, whose hidden options they would see."""
    config: Any = model.config
    kind: Any = type(config)
    if hidden_options(kind):
        model.__dict__[CONFIG_IN_CALLS] = config_in_calls(config)


@contextmanager
def hidden_from_compilers(model: nn.Module) -> Iterator[None]:
    """Within this context, which compilers write down, a model has the config that it has in a call."""
    in_calls = model.__dict__.get(CONFIG_IN_CALLS)
    if in_calls is None:
        yield
        return
    own = model.config
    model.config = in_calls
    try:
        yield
    finally:
        model.config = own


def config_in_calls(config: Any) -> Any:
    """A config that shares the values of another one, those that change later too; its hidden options are None."""
    own_kind: Any = type(config)
    kind = _kind_in_calls(own_kind)
    shown = kind.__new__(kind)
    shown.__dict__, shown.las_config = config.__dict__, config
    return shown


@cache
def hidden_options(kind: type) -> tuple[str, ...]:
    """Names of the hidden options of a class of configs."""
    return tuple(name for base in kind.__mro__ for name, value in vars(base).items() if isinstance(value, HiddenOption))


@cache
def _kind_in_calls(kind: Any) -> Any:
    names: dict[str, Any] = dict.fromkeys(hidden_options(kind), AlwaysHidden())
    names["__slots__"] = ("las_config",)  # beside the values, which are shared
    names["__reduce_ex__"] = lambda shown, protocol: (config_in_calls, (shown.las_config,))  # for copies and pickles
    return type(kind.__name__, (kind,), {"__module__": kind.__module__, **names})
