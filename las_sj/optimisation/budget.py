"""Energy of a network as its codes change: spikes have prices, all else depends on the number of time steps alone."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from las_sj.analysis import EnergyCosts, SpikeMonitor
from las_sj.analysis.energies.operations import MAC_KINDS, Operations, count_operations
from las_sj.analysis.energies.prices import Prices
from las_sj.analysis.energies.spike_prices import SpikeOperations, spike_operations
from las_sj.neurons import ThresholdNode

COSTS = EnergyCosts.preset("fp32")


@dataclass(frozen=True)
class EnergyBudget:
    """What some calls of a network cost, of which the spikes of some populations may change.

    Attributes:
        operations: of the calls, by operator.
        spikes: of each of these populations, by name.
    """

    operations: Sequence[Operations]
    spikes: dict[str, SpikeOperations]

    def price(self, name: str, levels: int, accounting: str) -> float:
        """Energy of a spike of a population, if it has that many levels, pJ."""
        return self.spikes[name].pj(levels, COSTS, accounting)

    def ann_pj(self, time_steps: int, accounting: str) -> float:
        """Energy of the ANN, which with memory has activations of as many bits as a code of T steps carries."""
        prices = Prices(COSTS, time_steps)
        return sum(prices.ann_pj(row)[accounting] for row in self._rows(accounting))

    def fixed_pj(self, time_steps: int, accounting: str) -> float:
        """Energy of the network without the spikes of these populations."""
        prices = Prices(COSTS, time_steps)
        counted = sum(each.pj(each.levels, COSTS, accounting) * each.spikes for each in self.spikes.values())
        return sum(prices.snn_pj(row)[accounting] for row in self._rows(accounting)) - counted

    def ratio(self, spikes_pj: float, time_steps: int, accounting: str) -> float:
        """Energy of the network over that of the ANN, where these spikes take `spikes_pj`."""
        return (spikes_pj + self.fixed_pj(time_steps, accounting)) / self.ann_pj(time_steps, accounting)

    def spikes_pj(self, ratio: float, time_steps: int, accounting: str) -> float:
        """The inverse of `ratio`: what spikes may take."""
        return ratio * self.ann_pj(time_steps, accounting) - self.fixed_pj(time_steps, accounting)

    def _rows(self, accounting: str) -> list[Operations]:
        return [row for row in self.operations if accounting != "paper" or row.kind in MAC_KINDS]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "EnergyBudget":
        """The inverse of `to_dict`."""
        spikes = {name: SpikeOperations(**each) for name, each in values["spikes"].items()}
        return cls([Operations(**row) for row in values["operations"]], spikes)


def budget_of(monitor: SpikeMonitor, names: Iterable[str]) -> EnergyBudget:
    """The budget of what a monitor has counted.

    Args:
        monitor: has counted calls of the network.
        names: of the populations whose codes change.
    """
    levels = {}
    for name in names:
        node = monitor.sites[name].site.node
        assert isinstance(node, ThresholdNode)
        levels[name] = node.code.levels
    return EnergyBudget(count_operations(monitor), spike_operations(monitor, levels))
