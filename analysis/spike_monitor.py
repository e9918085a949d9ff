"""Count the spikes of a converted model, site by site, while it runs."""

from dataclasses import dataclass
from types import TracebackType

from torch import Tensor
from transformers import PreTrainedModel

from las_sj.models import Site, named_sites, parts_of
from las_sj.neurons import WindowNode


@dataclass
class SiteSpikes:
    """Counts of one population of neurons over all windows seen.

    Padding is excluded where neurons belong to one token each ([B, S, C]); heads of attention include it.

    Attributes:
        site: the population.
        neurons: neurons times windows.
        spikes: spikes of all of them.
        out_of_range: inputs beyond the calibrated range.
    """

    site: Site
    neurons: int = 0
    spikes: int = 0
    out_of_range: int = 0

    @property
    def spikes_per_neuron(self) -> float:
        """Spikes per neuron and window; 0 where nothing was seen."""
        return self.spikes / self.neurons if self.neurons else 0.0


class SpikeMonitor:
    """Within this context every call of `model`, in either execution, is counted; constant in memory.

        with SpikeMonitor(model) as monitor:
            model(**batch)
        monitor.spikes_per_neuron

    Attributes:
        sites: counts by the full name of the neurons' node.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._execution = parts_of(model)
        self.sites = {name: SiteSpikes(site) for name, site in named_sites(model)}

    def __enter__(self) -> "SpikeMonitor":
        for counts in self.sites.values():
            counts.site.node.count_spikes = True
            counts.site.node.recorder = _Recorder(self, counts)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for counts in self.sites.values():
            counts.site.node.count_spikes = False
            counts.site.node.recorder = None
            counts.site.node.reset_counts()

    def padding_of(self, v: Tensor) -> Tensor | None:
        """The token mask [B, S] of the current call if `v` is [B, S, C]."""
        return self._execution.mask_of(v)

    @property
    def spikes_per_neuron(self) -> float:
        """Over the sites that feed a weight matrix, weighted by fan-out: spikes per synapse and window."""
        feeding = [counts for counts in self.sites.values() if counts.site.feeds == "weights"]
        synapses = sum(counts.neurons * counts.site.fan_out for counts in feeding)
        events = sum(counts.spikes * counts.site.fan_out for counts in feeding)
        return events / synapses if synapses else 0.0


class _Recorder:
    """Adds one window of one site to its counts."""

    def __init__(self, monitor: SpikeMonitor, counts: SiteSpikes) -> None:
        self.monitor = monitor
        self.counts = counts

    def __call__(self, node: WindowNode, v: Tensor, emitted: Tensor) -> None:
        spikes = node.spike_count
        assert spikes is not None
        mask = self.monitor.padding_of(v)
        if mask is not None:
            v, spikes = v[mask], spikes[mask]
        self.counts.neurons += v.numel()
        self.counts.spikes += int(spikes.sum())
        self.counts.out_of_range += node.count_out_of_range(v)
