"""Energy of a network as its codes change: spikes have prices, all else depends on the number of time steps alone."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from las_sj.analysis import EnergyCosts, SpikeMonitor
from las_sj.analysis.energies.operations import MAC_KINDS, Operations, count_operations
from las_sj.analysis.energies.prices import Prices
from las_sj.analysis.energies.spike_prices import SpikePrice, spike_prices
from las_sj.neurons import ThresholdNode

COSTS = EnergyCosts.preset("fp32")


@dataclass(frozen=True)
class EnergyBudget:
    """What some calls of a network cost, of which the spikes of some populations may change.

    Attributes:
        accounting: "paper", "level_aware" or "with_memory".
        operations: of the calls, by operator.
        prices: of a spike of each of these populations, by name.
        counted: energy of their spikes in the calls, pJ.
    """

    accounting: str
    operations: Sequence[Operations]
    prices: dict[str, SpikePrice]
    counted: float

    def _rows(self) -> list[Operations]:
        return [row for row in self.operations if self.accounting != "paper" or row.kind in MAC_KINDS]

    def ann_pj(self, time_steps: int) -> float:
        """Energy of the ANN, which with memory has activations of as many bits as a code of T steps carries."""
        prices = Prices(COSTS, time_steps)
        return sum(prices.ann_pj(row)[self.accounting] for row in self._rows())

    def fixed_pj(self, time_steps: int) -> float:
        """Energy of the network without the spikes of these populations."""
        prices = Prices(COSTS, time_steps)
        return sum(prices.snn_pj(row)[self.accounting] for row in self._rows()) - self.counted

    def ratio(self, spikes_pj: float, time_steps: int) -> float:
        """Energy of the network over that of the ANN, where these spikes take `spikes_pj`."""
        return (spikes_pj + self.fixed_pj(time_steps)) / self.ann_pj(time_steps)

    def spikes_pj(self, ratio: float, time_steps: int) -> float:
        """The inverse of `ratio`: what spikes may take."""
        return ratio * self.ann_pj(time_steps) - self.fixed_pj(time_steps)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "EnergyBudget":
        """The inverse of `to_dict`."""
        rows = [Operations(**row) for row in values["operations"]]
        prices = {name: SpikePrice(**price) for name, price in values["prices"].items()}
        return cls(values["accounting"], rows, prices, values["counted"])


def budget_of(monitor: SpikeMonitor, names: Iterable[str], accounting: str) -> EnergyBudget:
    """The budget of what a monitor has counted.

    Args:
        monitor: has counted calls of the network.
        names: of the populations whose codes change.
        accounting: as in `EnergyBudget`.
    """
    found = spike_prices(monitor, COSTS, accounting)
    prices = {name: found[name] for name in names}
    counted = 0.0
    for name, price in prices.items():
        node, spikes = monitor.sites[name].site.node, monitor.sites[name].spikes
        assert isinstance(node, ThresholdNode)
        counted += price.of(node.code.levels) * spikes
    return EnergyBudget(accounting, count_operations(monitor), prices, counted)
