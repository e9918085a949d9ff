"""What one more spike of a population costs, in each accounting."""

from dataclasses import dataclass

from las_sj.analysis.energies.costs import EnergyCosts
from las_sj.analysis.energies.operations import MAC_KINDS, kind_of_synapses, level_factor
from las_sj.analysis.spikes.site_spikes import ReadingSpikes, SiteSpikes
from las_sj.analysis.spikes.spike_monitor import SpikeMonitor


@dataclass(frozen=True)
class SpikeOperations:
    """Synaptic operations that a spike of a population causes, on average over its spikes.

    Attributes:
        of_macs: in operators that a count of MACs sees, which "paper" is over.
        others: in all others.
        levels: of the spikes that were counted.
        spikes: that were counted.
    """

    of_macs: float
    others: float
    levels: int
    spikes: int

    def pj(self, levels: int, costs: EnergyCosts, accounting: str) -> float:
        """Energy of a spike with that many levels, pJ, as `Prices.snn_pj` has it.

        Args:
            levels: n.
            costs: energies of single operations.
            accounting: "paper", "level_aware" or "with_memory".
        """
        if accounting == "paper":
            return costs.e_ac_pj * self.of_macs
        moved = costs.e_memory_pj_per_byte * costs.bytes if accounting == "with_memory" else 0.0
        return (costs.e_ac_pj * level_factor(levels) + moved) * (self.of_macs + self.others)


def spike_operations(monitor: SpikeMonitor, levels: dict[str, int]) -> dict[str, SpikeOperations]:
    """The operations of a spike of populations that a monitor has counted, by the name of their node.

    Args:
        monitor: has counted calls.
        levels: n of each of these populations.
    """
    names = {id(monitor.sites[name].site.node): name for name in levels}
    parts: dict[str, list[tuple[bool, float]]] = {name: _parts(monitor, name, monitor.sites[name]) for name in levels}
    for name, readings in monitor.readings.items():
        owner = names.get(id(readings.site.node))
        if owner is not None:
            parts[owner] += _parts(monitor, name, readings)
    return {
        name: SpikeOperations(
            sum(each for is_mac, each in found if is_mac),
            sum(each for is_mac, each in found if not is_mac),
            levels[name],
            monitor.sites[name].spikes,
        )
        for name, found in parts.items()
    }


def _parts(monitor: SpikeMonitor, name: str, counts: SiteSpikes | ReadingSpikes) -> list[tuple[bool, float]]:
    """For each operator that spikes go into, whether a count of MACs sees it, and operations of a spike."""
    site = counts.site
    return [
        (
            kind_of_synapses(monitor, name, synapses.operator, site) in MAC_KINDS,
            _own_fan_out(counts) if synapses.fan_out is None else synapses.fan_out,
        )
        for synapses in site.synapses
    ]


def _own_fan_out(counts: SiteSpikes | ReadingSpikes) -> float:
    """Synapses of a spike where each window has its own, as an operand of attention."""
    if counts.spikes:
        return counts.synaptic_operations / counts.spikes
    return counts.synapses / counts.neurons if counts.neurons else 0.0
