"""The state of one forward call of a converted model.

It lives in a context variable, so that threads which call one model do not see each other's calls, and is read through
`Execution.call`. Nothing about a call is written to the model, its config or its nodes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Optional

from torch import Tensor, nn

from las_sj.models.inputs import Size, size_of, source_of
from las_sj.neurons import watching


@dataclass(frozen=True, eq=False)
class Call:
    """A forward call that is under way.

    Attributes:
        identity: of the `Execution` of the model that was called.
        caller: the model, or the model inside of it, that was called.
        temporal: whether tensors are [T·B, ...], t-major, and carry currents; otherwise [B, ...], accumulated values.
        time_steps: T of the model; fewer in a call of `few_steps`.
        outer: the call within which this one was made, or None.
        token_mask: bool [B, S], False on padding; None without padding, or where the model takes no tokens.
        arguments: what the caller was given, by name, before inputs were repeated.
        labels: what a loss is computed from at the end of the call.
        is_entry: whether inputs were repeated at its beginning: it is not a call within one of the same model.
        notes: what an observer of the call keeps for as long as it lasts, by observer.
    """

    identity: object
    caller: nn.Module
    temporal: bool
    time_steps: int
    outer: Optional["Call"] = None
    token_mask: Tensor | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    labels: Tensor | None = None
    is_entry: bool = True
    notes: dict[object, Any] = field(default_factory=dict)

    @cached_property
    def live_tokens(self) -> Tensor | None:
        """Which tokens take part, bool [B, S, 1]; None for all."""
        return None if self.token_mask is None else self.token_mask.unsqueeze(-1)

    @cached_property
    def live_rows(self) -> Tensor | None:
        """Which tokens take part, where they lie in one row: bool [B·S, 1]; None for all."""
        return None if self.token_mask is None else self.token_mask.reshape(-1, 1)

    @cached_property
    def live_share(self) -> float:
        """The share of tokens that take part; 1 where a graph is made, which counts all."""
        return 1.0 if self.token_mask is None or watching.is_captured() else float(self.token_mask.float().mean())

    @property
    def batch(self) -> int | None:
        """B: sequences or images that went in; None where rows of a call are patches, or nothing tells."""
        if not self.is_entry and self.outer is not None:
            return self.outer.batch
        source = source_of(self.arguments)
        return None if source is None or "grid_thw" in self.arguments else len(source)

    @property
    def size(self) -> Size:
        """Tokens without padding, and sequences or images, that went in."""
        return size_of(self.arguments)


_INNERMOST: ContextVar[Call | None] = ContextVar("las_sj_call", default=None)


def innermost() -> Call | None:
    """The innermost call under way in this thread, of any model."""
    return _INNERMOST.get()


@contextmanager
def under_way(call: Call | None) -> Iterator[None]:
    """Within this context `call` is the innermost one, as it begins or layers of it run again; None: there is none."""
    before = _INNERMOST.get()
    _INNERMOST.set(call)
    try:
        yield
    finally:
        _INNERMOST.set(before)
