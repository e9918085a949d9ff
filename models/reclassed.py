"""Objects that get a class of las_sj in place: their own class with a mixin before it.

Names, ties, hooks, PEFT and isinstance survive. Such classes are made at run time, so copies and pickles tell what they
are made of.
"""

from functools import cache
from typing import Any, ClassVar


class Reclassed:
    """Mixin of every object whose class was changed in place.

    Attributes:
        prefix: of the name of the class that an object gets; "" where others know it by its name.
        las_parts: the mixins, outermost first, and the class that the object had.
        las_forward: the forward method that this class had then, if it has one.
    """

    prefix: ClassVar[str] = ""
    las_parts: ClassVar[tuple[tuple[type[Any], ...], type]]
    las_forward: ClassVar[Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """An object of the class that was there before, where somebody makes one of `type(thing)`.

        PEFT does so for convolutions. An object that nobody has equipped would not run.
        """
        parts = vars(cls).get("las_parts")
        return super().__new__(cls) if parts is None or not (args or kwargs) else parts[1](*args, **kwargs)

    @property
    def class_has_changed(self) -> bool:
        """Whether somebody has given another forward method to the class that the object had."""
        parts = getattr(type(self), "las_parts", None)
        return parts is not None and getattr(parts[1], "forward", None) is not type(self).las_forward

    @classmethod
    def members_over(cls, base: Any) -> dict[str, Any]:
        """What a class has besides, if this mixin is put before `base`: methods that must look like those of it."""
        return {}

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """How copy and pickle make the object anew: by the parts of its class, which no module holds."""
        reduced: Any = super().__reduce_ex__(max(protocol, 2))
        parts = getattr(type(self), "las_parts", None)
        return reduced if parts is None else (_new, parts, *reduced[2:])  # None: a class that a module holds


def reclass(thing: Any, mixin: type[Reclassed]) -> None:
    """Put `mixin` before the class of an object, in place."""
    parts: tuple[tuple[type[Reclassed], ...], type] = getattr(type(thing), "las_parts", ((), type(thing)))
    mixins, original = parts
    kind: Any = class_of((mixin, *mixins), original)
    thing.__class__ = kind


@cache
def class_of(mixins: tuple[type[Reclassed], ...], original: type) -> type:
    """One class for each combination, so that objects of one type stay of one type.

    A class with a name of its own says that it is where its mixin is, which inspect.getsource then shows.
    """
    mixin, *others = mixins
    base = class_of(tuple(others), original) if others else original
    named = mixin if mixin.prefix else base
    names: dict[str, Any] = {"__module__": named.__module__, "__qualname__": named.__qualname__}
    names |= {"las_parts": (mixins, original), "las_forward": getattr(original, "forward", None)}
    names |= mixin.members_over(base)
    kind: Any = type(f"{mixin.prefix}{base.__name__}", (mixin, base), names)
    if "forward" in vars(kind) and "forward" not in names:  # a copy that transformers made for the new class
        del kind.forward
    return kind


def _new(mixins: tuple[type[Reclassed], ...], original: type) -> Any:
    kind: Any = class_of(mixins, original)
    return kind.__new__(kind)
