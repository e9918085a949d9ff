"""The state of one forward call of a converted model.

It lives in a context variable, so that threads which call one model do not see each other's calls, and is read through
`Execution.call`. Nothing about a call is written to the model, its config or its nodes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import FrameType
from typing import Any, Optional

from torch import Tensor, nn

from las_sj.models.inputs import Size, size_of
from las_sj.neurons import watching


@dataclass(frozen=True, eq=False)
class Call:
    """A forward call that is under way.

    Attributes:
        identity: of the `Execution` of the model that was called.
        caller: the model, or the model inside of it, that was called.
        temporal: whether tensors are [T·B, ...], t-major, and carry currents; otherwise [B, ...], accumulated values.
        outer: the call within which this one was made, or None.
        token_mask: bool [B, S], False on padding; None without padding, or where the model takes no tokens.
        arguments: what the caller was given, by name, before inputs were repeated.
        labels: what a loss is computed from at the end of the call.
        is_entry: whether inputs were repeated at its beginning: it is not a call within one of the same model.
        frame: what runs the caller; None where that cannot have ended, as where layers are computed again.
        notes: what an observer of the call keeps for as long as it lasts, by observer.
    """

    identity: object
    caller: nn.Module
    temporal: bool
    outer: Optional["Call"] = None
    token_mask: Tensor | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    labels: Tensor | None = None
    is_entry: bool = True
    frame: FrameType | None = None
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
        """The share of tokens that take part."""
        return 1.0 if self.token_mask is None else float(self.token_mask.float().mean())

    @property
    def is_under_way(self) -> bool:
        """Whether the call has not ended; an interrupt ends one without a word."""
        return self.frame is None or watching.is_running(self.frame)

    def kept(self) -> "Call":
        """The call for those who keep it until it has ended: without frames, whose locals hold inputs and outputs."""
        return replace(self, frame=None, outer=None if self.outer is None else self.outer.kept())

    @property
    def size(self) -> Size:
        """Tokens without padding, and sequences or images, that went in."""
        return size_of(self.arguments)


_INNERMOST: ContextVar[Call | None] = ContextVar("las_sj_call", default=None)


def innermost() -> Call | None:
    """The innermost call under way in this thread, of any model."""
    return _INNERMOST.get()


def begin(call: Call | None) -> None:
    """Make a call the innermost one; None: no call is under way."""
    _INNERMOST.set(call)


@contextmanager
def again(call: Call | None) -> Iterator[None]:
    """Within this context layers find a call that was `kept`: gradient checkpointing runs them a second time."""
    before = _INNERMOST.get()
    _INNERMOST.set(call)
    try:
        yield
    finally:
        _INNERMOST.set(before)
