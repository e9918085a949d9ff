"""The neurons of the operations in one module's forward method."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from las_sj.models.execution import Execution
from las_sj.models.layers.site import Site, Synapses
from las_sj.models.layers.spiking_layer import SpikingLayer
from las_sj.models.neuron_factory import NeuronFactory
from las_sj.neurons import WindowNode

CHILD = "spiking"  # the attribute of a module that holds them


@dataclass(frozen=True)
class Kind:
    """What a population does.

    Args:
        function: of HG neurons; "" for neurons that code values.
        feeds: what its spikes go into: "weights", "product" or "neuron".
        upper_bound: the largest magnitude that can occur, where it is known beforehand.
        epsilon: ε, of the centred values of a norm.
    """

    function: str = ""
    feeds: str = "neuron"
    upper_bound: float | None = None
    epsilon: float | None = None


class Populations(SpikingLayer):
    """The populations of the operations that stand in one module's forward method.

    Args:
        execution: of the model.

    Attributes:
        names: of operations, by function and place: the function, and its number in the order of appearance.
        kinds: of populations, by name.
    """

    def __init__(self, execution: Execution) -> None:
        super().__init__()
        self.__dict__["execution"] = execution
        self.names: dict[str, str] = {}
        self.kinds: dict[str, Kind] = {}

    def sites(self) -> Iterator[Site]:
        for name, kind in self.kinds.items():
            operator = name.rsplit("_", 1)[0]
            synapses = (Synapses(operator, 1),)
            yield Site(name, getattr(self, name), kind.feeds, synapses, upper_bound=kind.upper_bound)

    def name_operation(self, function: str, place: str) -> str:
        """The name of an operation that is seen for the first time."""
        number = sum(known.split("@")[0] == function for known in self.names) + 1
        name = self.names[f"{function}@{place}"] = f"{function}_{number}"
        return name

    def add(self, name: str, kind: Kind, factory: NeuronFactory) -> WindowNode:
        """Make a population."""
        node: WindowNode = factory.non_linearity(kind.function) if kind.function else factory.coder()
        node.step_mode = self.execution.step_mode
        self.kinds[name] = kind
        setattr(self, name, node)
        return node

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"names": dict(self.names), "kinds": {name: asdict(kind) for name, kind in self.kinds.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], execution: Execution, factory: NeuronFactory) -> "Populations":
        """The inverse of `to_dict`, with new neurons."""
        populations = cls(execution)
        populations.names.update(values["names"])
        for name, kind in values["kinds"].items():
            populations.add(name, Kind(**kind), factory)
        return populations
