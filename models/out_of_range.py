"""The warning, once a model, that its neurons receive values that calibration has not seen."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from threading import Lock

import torch
from torch import Tensor

from las_sj.neurons import WindowNode, watching

SHARE = 1e-3  # of a population's inputs that may lie out of range
LEAST = 1000  # inputs that a share is taken of, at least: one of a few is no sign
BLOCK = 100_000  # inputs after which counting starts again, so that a change shows after any number of calls
_EVERY = 16  # calls on other devices, whose counts must be fetched, between two looks
_SAYING = Lock()


class OutOfRangeWarning(UserWarning):
    """More than one in 1,000 inputs of a population of neurons lay outside of its calibrated range."""


@dataclass(frozen=True)
class Share:
    """How many inputs of a population lay out of range.

    Attributes:
        name: of the site.
        out_of_range, inputs: numbers of inputs, those out of range and all.
    """

    name: str
    out_of_range: int
    inputs: int

    @property
    def value(self) -> float:
        """The share, of at least `LEAST` inputs."""
        return self.out_of_range / max(self.inputs, LEAST)


class Ranges:
    """Looks after the populations of one model, which count their inputs; warns once.

    Attributes:
        nodes: the populations and their names, those aside that code any input as well as one in range.
        said: whether the warning was given.
    """

    def __init__(self) -> None:
        self.nodes: list[tuple[str, WindowNode]] = []
        self.said = False
        self._looks = 0

    def watch(self, nodes: Iterable[tuple[str, WindowNode]]) -> None:
        """Look after these populations from now on."""
        self.nodes = [(name, node) for name, node in nodes if not node.extends]
        self.start_again()

    def start_again(self) -> None:
        """Forget what was counted and said so far: ranges have changed."""
        self.said = False
        for _, node in self.nodes:
            node.counts.mark()

    def check(self) -> None:
        """Warn where more than `SHARE` of a population's inputs, as of late, lay out of range."""
        if self.said or torch.compiler.is_compiling():
            return
        self._looks += 1
        beyond = [share for share in self._shares() if share.value > SHARE]
        if not beyond:
            return
        with _SAYING:
            said, self.said = self.said, True
        if not said:
            warnings.warn(_message(beyond), OutOfRangeWarning, stacklevel=2)

    def _shares(self) -> Iterator[Share]:
        """Of the populations with inputs out of range since counting started again."""
        found = [(name, node, *node.counts.recent) for name, node in self._seen_now()]
        for (name, node, inputs, _), beyond in zip(found, _fetched([beyond for *_, beyond in found]), strict=True):
            if inputs >= BLOCK:
                node.counts.mark()
            if beyond:
                yield Share(name, beyond, inputs)

    def _seen_now(self) -> Iterator[tuple[str, WindowNode]]:
        """The populations whose counts are on the host, and in some calls those whose counts must be fetched."""
        fetches = self._looks % _EVERY == 1 and not watching.is_captured()
        for name, node in self.nodes:
            if fetches or not node.counts.is_elsewhere:
                yield name, node


def _fetched(numbers: list[Tensor | int]) -> list[int]:
    """The numbers, those of each device fetched at once."""
    fetched = [0 if isinstance(number, Tensor) else number for number in numbers]
    places: dict[torch.device, list[int]] = {}
    for place, number in enumerate(numbers):
        if isinstance(number, Tensor):
            places.setdefault(number.device, []).append(place)
    for there in places.values():
        values = torch.stack([numbers[place].view(()) for place in there]).tolist()  # type: ignore[union-attr]
        for place, value in zip(there, values, strict=True):
            fetched[place] = int(value)
    return fetched


def _message(beyond: list[Share]) -> str:
    worst = max(beyond, key=lambda share: share.value)
    others = f", and too many at {len(beyond) - 1} more" if len(beyond) > 1 else ""
    return (
        f"{worst.out_of_range:,} of {worst.inputs:,} inputs of {worst.name} lie outside of its calibrated range "
        f"({worst.out_of_range / worst.inputs:.2%}){others}: they are cut off at its end, so outputs may be wrong. "
        "Convert with more calibration data, or with data like this, or with a larger headroom"
    )
