"""The neurons of the operations in one module's forward method."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from las_sj.models.execution import Execution
from las_sj.models.layers.site import Dense, Site, Synapses
from las_sj.models.layers.spiking_layer import SpikingLayer
from las_sj.models.neuron_factory import NeuronFactory
from las_sj.models.operations.coded import Source
from las_sj.neurons import FanOut, HGNode, WindowCounts, WindowNode

CHILD = "spiking"  # the attribute of a module that holds them


@dataclass(frozen=True)
class Kind:
    """What a population does.

    Args:
        function: of HG neurons; "" for neurons that code values.
        feeds: what its spikes go into: "weights", "product" or "neuron".
        upper_bound: the largest magnitude that can occur, where it is known beforehand.
        epsilon: ε, of the centred values of a norm.
        synapses: of each neuron, where all windows have the same; None: each window has its own.
        is_mac: whether a synapse stands for a multiply-accumulate of the original.
        additions: of currents before they come to a neuron, which the native operation of the original contains.
        native: what the original does to the value that a neuron takes: "norm", "softmax", a function.
        tolerance: that calibration has fitted HG neurons to; None: the one of the settings.
    """

    function: str = ""
    feeds: str = "neuron"
    upper_bound: float | None = None
    epsilon: float | None = None
    synapses: int | None = 1
    is_mac: bool = False
    additions: int = 0
    native: str = ""
    tolerance: float | None = None


@dataclass(frozen=True)
class Reading:
    """Spikes that an operation reads, of a population of another operation, which has coded the same current.

    Args:
        source: the population.
        feeds, synapses, is_mac: as of `Kind`, where the spikes are read.
    """

    source: Source
    feeds: str
    synapses: int | None
    is_mac: bool


# Is told what was counted of a window, the shape [B, ...] of its neurons, and where the reading takes their spikes.
ReadingRecorder = Callable[[WindowCounts, torch.Size, FanOut], None]


class Populations(SpikingLayer):
    """The populations of the operations that stand in one module's forward method.

    Args:
        execution: of the model.

    Attributes:
        names: of operations, by function and place: the function, and its number in the order of appearance.
        kinds: of populations, by name.
        readings: of populations elsewhere, by the names that populations in their place would have.
        readers: how many readings there are of each of these populations.
        recorders: are told of readings, by name; while a monitor counts.
    """

    def __init__(self, execution: Execution) -> None:
        super().__init__()
        self.__dict__["execution"] = execution
        self.names: dict[str, str] = {}
        self.kinds: dict[str, Kind] = {}
        self.readings: dict[str, Reading] = {}
        self.readers: Counter[str] = Counter()
        self.recorders: dict[str, ReadingRecorder] = {}

    def sites(self) -> Iterator[Site]:
        for name, kind in self.kinds.items():
            synapses = Synapses(self.operation_of(name), kind.synapses, kind.is_mac)
            dense = (Dense(synapses.operator, kind.additions, native=True),) if kind.additions else ()
            yield Site(name, getattr(self, name), kind.feeds, (synapses,), dense, kind.native, kind.upper_bound)

    def operation_of(self, population: str) -> str:
        """The name of the operation that a population belongs to: its own, but for the role."""
        return max((name for name in self.names.values() if f"{population}_".startswith(f"{name}_")), key=len)

    def name_operation(self, function: str, place: str) -> str:
        """The name of an operation that is seen for the first time."""
        number = sum(known.split("@")[0] == function for known in self.names) + 1
        name = self.names[f"{function}@{place}"] = f"{function}_{number}"
        return name

    def reading_sites(self, source_of: Callable[[Source], WindowNode]) -> Iterator[Site]:
        """What would be sites if the operations here did not read the spikes of other populations.

        Args:
            source_of: finds these.
        """
        for name, reading in self.readings.items():
            synapses = Synapses(self.operation_of(name), reading.synapses, reading.is_mac)
            yield Site(name, source_of(reading.source), reading.feeds, (synapses,))

    def note_reader(self, name: str, *, emits_for_others: bool = False) -> None:
        """Know that an operation elsewhere reads the spikes of a population.

        Args:
            name: of the population.
            emits_for_others: whether its own operation does nothing with them, so that it tells of no synapse.
        """
        self.readers[name] += 1
        if emits_for_others:
            self.kinds[name] = replace(self.kinds[name], synapses=None)

    def add(self, name: str, kind: Kind, factory: NeuronFactory) -> WindowNode:
        """Make a population."""
        node: WindowNode = factory.non_linearity(kind.function) if kind.function else factory.coder()
        if isinstance(node, HGNode):
            node.refines = True
            if kind.tolerance is not None:
                node.refit(kind.tolerance)
        node.step_mode = self.execution.step_mode
        self.kinds[name] = kind
        setattr(self, name, node)
        return node

    def _fitted(self, name: str) -> float | None:
        node = getattr(self, name)
        return node.tolerance if isinstance(node, HGNode) else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        kinds = {name: asdict(replace(kind, tolerance=self._fitted(name))) for name, kind in self.kinds.items()}
        readings = {name: asdict(reading) | {"source": [*reading.source]} for name, reading in self.readings.items()}
        return {"names": dict(self.names), "kinds": kinds, "readings": readings}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], execution: Execution, factory: NeuronFactory) -> "Populations":
        """The inverse of `to_dict`, with new neurons."""
        populations = cls(execution)
        populations.names.update(values["names"])
        for name, kind in values["kinds"].items():
            populations.add(name, Kind(**kind), factory)
        for name, reading in values["readings"].items():
            populations.readings[name] = Reading(**reading | {"source": Source(*reading["source"])})
        return populations
