"""What one more spike of a population costs, in each accounting."""

from dataclasses import dataclass

from las_sj.analysis.energies.costs import EnergyCosts
from las_sj.analysis.energies.operations import MAC_KINDS, kind_of_synapses, level_factor
from las_sj.analysis.spikes.site_spikes import ReadingSpikes, SiteSpikes
from las_sj.analysis.spikes.spike_monitor import SpikeMonitor


@dataclass(frozen=True)
class SpikePrice:
    """Energy of a spike, pJ.

    Attributes:
        fixed: whatever its amplitude.
        per_bit: for each addition that its payload takes.
    """

    fixed: float = 0.0
    per_bit: float = 0.0

    def of(self, levels: int) -> float:
        """Of a spike with that many levels, pJ."""
        return self.fixed + self.per_bit * level_factor(levels)


def spike_prices(monitor: SpikeMonitor, costs: EnergyCosts, accounting: str) -> dict[str, SpikePrice]:
    """The price of a spike of each population, as `Prices.snn_pj` has it; all spikes of one have the same fan-out.

    Args:
        monitor: has counted calls.
        costs: energies of single operations.
        accounting: "paper", "level_aware" or "with_memory".

    Returns:
        By the name of the node.
    """
    prices = {}
    by_node = {id(counts.site.node): name for name, counts in monitor.sites.items()}
    operations = dict.fromkeys(monitor.sites, 0.0)
    for name, counts in monitor.sites.items():
        operations[name] += _operations_of(monitor, name, counts, accounting)
    for name, readings in monitor.readings.items():
        owner = by_node[id(readings.site.node)]
        operations[owner] += _operations_of(monitor, name, readings, accounting)
    for name, each in operations.items():
        if accounting == "paper":
            prices[name] = SpikePrice(fixed=costs.e_ac_pj * each)
            continue
        moved = costs.e_memory_pj_per_byte * costs.bytes if accounting == "with_memory" else 0.0
        prices[name] = SpikePrice(moved * each, costs.e_ac_pj * each)
    return prices


def _operations_of(monitor: SpikeMonitor, name: str, counts: SiteSpikes | ReadingSpikes, accounting: str) -> float:
    """Synaptic operations that a spike causes, of those that an accounting sees."""
    site, total = counts.site, 0.0
    for synapses in site.synapses:
        if accounting == "paper" and kind_of_synapses(monitor, name, synapses.operator, site) not in MAC_KINDS:
            continue
        total += _own_fan_out(counts) if synapses.fan_out is None else synapses.fan_out
    return total


def _own_fan_out(counts: SiteSpikes | ReadingSpikes) -> float:
    """Synapses of a spike where each window has its own, as an operand of attention."""
    if counts.spikes:
        return counts.synaptic_operations / counts.spikes
    return counts.synapses / counts.neurons if counts.neurons else 0.0
