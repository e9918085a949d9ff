"""An `nn.Sequential` that is converted as a model of its own: it calls its children, of which some are las_sj's."""

from collections.abc import Iterator

from torch import nn

from las_sj.models.execution import Execution
from las_sj.models.layers.spiking_layer import KnowsCalls
from las_sj.models.operations.populations import Populations
from las_sj.neurons import watching


class Sequence(KnowsCalls):
    """Mixin of an `nn.Sequential` whose children do not count that hold its execution and neurons."""

    def __iter__(self) -> Iterator[nn.Module | None]:
        children = watching.children_of(self).values()
        return (child for child in children if not isinstance(child, Execution | Populations))

    def __len__(self) -> int:
        return sum(1 for _ in self)
