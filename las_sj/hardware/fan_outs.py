"""How many synapses the spikes of each population reach, where they come to no weights."""

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
        read = {id(readings.site.node): readings for readings in monitor.readings.values()}
        for name, counts in monitor.sites.items():
            operations = float(sum((each.fan_out or 0) * counts.spikes for each in counts.site.synapses))
            operations += counts.synaptic_operations
            readings = read.get(id(counts.site.node))
            operations += 0 if readings is None else readings.synaptic_operations
            before, spikes = self._before.get(name, (0.0, 0))
            if counts.spikes > spikes:
                fan_outs[name] = (operations - before) / (counts.spikes - spikes)
            self._before[name] = (operations, counts.spikes)
        return fan_outs
