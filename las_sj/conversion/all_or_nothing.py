"""A conversion in place either ends well or leaves the model as it was."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def all_or_nothing(model: nn.Module) -> Iterator[None]:
    """Within this context modules change in place; where it ends in an error, or is interrupted, they change back.

    Their classes, attributes, submodules, hooks and parameters are; not what is written to the memory of a tensor.
    """
    restore = snapshot(model)
    try:
        yield
    except BaseException:
        restore()
        raise


def snapshot(model: nn.Module) -> Callable[[], None]:
    """What makes the modules of a model what they are now, whatever was changed in place meanwhile."""
    before = [_State(module) for module in model.modules()]

    def restore() -> None:
        for state in before:
            state.restore()

    return restore


class _State:
    """What a module is and has.

    Args:
        module: the module.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.kind = type(module)
        # torch keeps parameters, buffers, submodules and hooks in dicts and sets, which are changed in place.
        self.attributes = {name: (value, _copied(value)) for name, value in vars(module).items()}

    def restore(self) -> None:
        """Make the module what it was."""
        self.module.__class__ = self.kind
        attributes = vars(self.module)
        attributes.clear()
        for name, (value, content) in self.attributes.items():
            if content is not None:
                value.clear()
                value.update(content)
            attributes[name] = value


def _copied(value: Any) -> dict[Any, Any] | set[Any] | None:
    """The content of a dict or a set; of other things they themselves are all that is kept."""
    return value.copy() if isinstance(value, dict | set) else None
