"""How many synapses the spikes of each population reach, where they come to no weights."""

from collections import Counter

from las_sj.analysis import SpikeMonitor


class FanOuts:
    """Synaptic events of a spike that comes to no weights, call by call."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, int]] = {}

    def of_call(self, monitor: SpikeMonitor) -> dict[str, float]:
        """By site: fixed, or the mean over live partners since the last call; sites without a spike are left out.

        Operations that read the spikes of another one's neurons are counted with those neurons.
        """
        fan_outs = {}
        read: Counter[int] = Counter()
        for readings in monitor.readings.values():
            read[id(readings.site.node)] += readings.synaptic_operations
        for name, counts in monitor.sites.items():
            operations = float(sum((each.fan_out or 0) * counts.spikes for each in counts.site.synapses))
            operations += counts.synaptic_operations
            operations += read[id(counts.site.node)]
            before, spikes = self._before.get(name, (0.0, 0))
            if counts.spikes > spikes:
                fan_outs[name] = (operations - before) / (counts.spikes - spikes)
            self._before[name] = (operations, counts.spikes)
        return fan_outs
