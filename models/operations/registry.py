"""The rules of torch functions: what becomes of a function when it is given a current."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Rule:
    """What becomes of a torch function.

    Args:
        run: computes it.
        is_composite: whether it is written in torch functions that have rules.
    """

    run: Callable[..., Any]
    is_composite: bool


RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Function], Function]:
    """Register the decorated function as the rule of torch functions.

        @rule("relu")
        def relu(op: Operation, x: Tensor) -> Tensor:
            return op.fire("relu", x)

    A rule is given the `Operation`, and then the arguments of the function, at least one of which is a current or
    holds one. Torch functions that it calls are not intercepted. It returns tensors that it has marked, by
    `Operation.current` or what returns currents, where they are currents.

    Args:
        names: of torch functions or methods, without the underscore of those that work in place; of an attribute for
            its getter. A string may hold several, with spaces between them.
    """

    def register(run: Function) -> Function:
        for name in " ".join(names).split():
            RULES[name] = Rule(run, is_composite=False)
        return run

    return register


def composite(*names: str) -> Callable[[Function], Function]:
    """Register the decorated function as what torch functions are composed of.

        @composite("relu6")
        def relu6(input: Tensor) -> Tensor:
            return F.relu(input) - F.relu(input - 6)

    It is given the arguments of the function, and what it calls is intercepted again: each torch function follows its
    own rule, constants that it adds are shared over the time steps.
    """

    def register(run: Function) -> Function:
        for name in " ".join(names).split():
            RULES[name] = Rule(run, is_composite=True)
        return run

    return register
