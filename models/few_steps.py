"""Calls of fewer time steps than T, where neurons are bypassed: three show what T would.

A bypassed neuron passes a value on in uneven shares, the first of them large, the second negative, all others zero.
What is linear, with its constants shared, keeps their sum in three steps as in T; what is not linear does not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

FEW = 3  # a step of each kind
_MOST: ContextVar[int | None] = ContextVar("las_sj_few_steps", default=None)


@contextmanager
def few_steps(wanted: bool = True) -> Iterator[None]:
    """Within this context temporal calls of models that are converted by operations take `FEW` steps, or T if fewer.

    Their neurons must be bypassed: others emit trains of T steps.

    Args:
        wanted: whether it is so; otherwise all is as ever.
    """
    before = _MOST.set(FEW if wanted else None)
    try:
        yield
    finally:
        _MOST.reset(before)


def steps_of_call(time_steps: int) -> int:
    """How many time steps a temporal call takes that begins now, of a model with T of them that is converted so."""
    most = _MOST.get()
    return time_steps if most is None else min(time_steps, most)
