"""What a model does to the images of a batch one after the other is done once, for all time steps together.

In a temporal call a loop over images goes through those of the first time step, then of the second, and so on. But
neurons need all steps of an image at once. So an operation on an image of the first step runs for all of them; later,
the loop gets what was computed then.
"""

from typing import Any


class Lanes:
    """The operations on currents of single time steps in a call: each step has the same ones, in the same order."""

    def __init__(self) -> None:
        self._done: list[tuple[str, list[Any]]] = []  # function, and what it returned at each step
        self._reached: dict[int, int] = {}

    def add(self, name: str, outputs: list[Any]) -> None:
        """Keep what an operation of the first step returned, at each step."""
        self._done.append((name, outputs))

    def next_of(self, step: int, name: str) -> Any:
        """What the next operation of a later step returns.

        Raises:
            LookupError: the first step had another one there.
        """
        place = self._reached.get(step, 0)
        self._reached[step] = place + 1
        known, outputs = self._done[place] if place < len(self._done) else ("", [])
        if known != name:
            raise LookupError(name)
        return outputs[step]
