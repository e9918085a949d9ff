"""Options of a model's config that a spiking layer has taken over: modelling code must not follow them too."""

from typing import Any

from las_sj.models.call import innermost


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
