"""Which currents a population has coded already: neighbours of its operation read the same spikes."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from las_sj.neurons import WindowCounts, watching

_MARK = "las_coded"


class Source(NamedTuple):
    """A population of an operation.

    Attributes:
        module: full name of the module that it hangs on.
        population: its name there.
    """

    module: str
    population: str


@dataclass
class Coded:
    """What a population has made of a current.

    Attributes:
        source: the population.
        spikes: in the shape of the current; None: the current itself is what it has emitted.
        readers: how many have not read the spikes yet; None where that is not known.
        counts: of the window, where a monitor counts.
        emits_for_others: whether the operation of the population does nothing with its spikes itself.
        version: of the memory of the current then.
    """

    source: Source
    spikes: Tensor | None
    readers: int | None
    counts: WindowCounts | None = None
    emits_for_others: bool = False
    version: int | None = None


def keep_coded(x: Tensor, coded: Coded) -> None:
    """Keep what became of a current for those who need the same, if it can be told whether the current changes."""
    coded.version = watching.version_of(x)
    if coded.version is not None:
        setattr(x, _MARK, coded)


def coded_of(x: Tensor) -> Coded | None:
    """What became of a current, unless it was changed since then."""
    coded: Coded | None = getattr(x, _MARK, None)
    return None if coded is None or coded.version != watching.version_of(x) else coded


def read(x: Tensor, coded: Coded) -> Tensor:
    """The spikes of a current that was coded; they are let go when the last reader has them."""
    spikes = x if coded.spikes is None else coded.spikes
    if coded.readers is not None:
        coded.readers -= 1
        if coded.readers == 0:
            forget_coded(x)
    return spikes


def forget_coded(x: Tensor) -> None:
    """Forget what became of a current."""
    vars(x).pop(_MARK, None)
