"""Count the spikes of a converted model, site by site, while it runs."""

from functools import partial
from threading import Lock
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from las_sj.analysis.spikes.lane_macs import LaneMacs, ModuleMacs
from las_sj.analysis.spikes.site_spikes import Live, ReadingSpikes, SiteSpikes
from las_sj.analysis.spikes.train_sample import TrainSample
from las_sj.models import AnalogIsland, execution_of, named_sites
from las_sj.models.dense_operations import DenseOperations
from las_sj.models.inputs import arguments_of, size_of
from las_sj.models.lanes import Lanes
from las_sj.models.layers.analog import IslandCounts
from las_sj.models.operations.model import named_readings
from las_sj.models.tensor_parallel import refuse_parts
from las_sj.neurons import FanOut, WindowCounts, WindowNode, WindowRecord, watching

SAMPLE = 256
_COUNTING = Lock()  # threads may call a monitored model at once


class SpikeMonitor:
    """Within this context every call of `model`, in either execution, is counted; constant in memory.

        with SpikeMonitor(model) as monitor:
            model(**batch)
        monitor.spikes_per_neuron

    Spikes, neurons, synaptic operations, outliers and inputs out of range are counted exactly. Statistics of the trains
    (firing rate by time step, levels, silent and saturated neurons: `sites[name].trains`) come from a sample.

    Of a network of rate codes, whose neurons run in time alone, temporal calls are counted and no others.

    Args:
        model: a converted model.
        sample: neurons sampled of each site in the first four windows, and in every eighth after them, for statistics
            of the trains; None looks at all, exactly.
        keep_trains: spike trains kept of each site, for plots and export (`train_sample`); 0 keeps none.

    Attributes:
        model: the model.
        sites: counts by the full name of the neurons' node.
        readings: counts of operations that read the spikes of another one's neurons, by the name that their own had.
        tokens, samples: tokens (padding excluded) and sequences or images that went in, call by call: a sequence that
            `generate` extends by four tokens without a cache counts four times.
        train_sample: the trains that were kept, or None.
        islands: counts of the parts that stayed analog, by name.
        dense: operations without neurons of a model that was converted by operations; of one time step.
        lane_macs: what a network of rate codes runs in each lane, by module; {} of all others.

    Raises:
        ValueError: the model is not converted, or (on entering) counted by another monitor, or shared by processes.
    """

    def __init__(self, model: nn.Module, sample: int | None = SAMPLE, keep_trains: int = 0) -> None:
        self._execution = execution_of(model)
        self._hooks: list[Any] = []
        self.model = model
        self.sites = {name: SiteSpikes(site, sample) for name, site in named_sites(model)}
        self._readings = {name: (populations, site) for name, populations, site in named_readings(model)}
        self.readings = {name: ReadingSpikes(site) for name, (_, site) in self._readings.items()}
        self._islands = {name: part for name, part in model.named_modules() if isinstance(part, AnalogIsland)}
        self.islands = {name: IslandCounts() for name in self._islands}
        self.dense = DenseOperations()
        self._lane_macs = None if self.lanes is None else LaneMacs(model)
        self.lane_macs: dict[str, ModuleMacs] = {} if self._lane_macs is None else self._lane_macs.modules
        self.tokens = self.samples = 0
        self.train_sample = TrainSample(keep_trains) if keep_trains else None

    def __enter__(self) -> "SpikeMonitor":
        refuse_parts(self.model, "counting spikes")
        if any(counts.site.node.recorder is not None for counts in self.sites.values()):
            raise ValueError("another monitor counts this model already: leave its context first")
        for name, counts in self.sites.items():
            counts.site.node.count_spikes = True
            counts.site.node.recorder = _Recorder(self, name, counts)
        for name, (populations, site) in self._readings.items():
            populations.recorders[site.name] = partial(self._count_reading, self.readings[name])
        for name, island in self._islands.items():
            island.counts = self.islands[name]
        if self._execution.operated is not None:
            self._execution.operated.dense = self.dense
        if self._lane_macs is not None:
            self._lane_macs.attach()
        for module in self.model.modules():
            # Calls may go to a model inside of the model.
            if module is self.model or isinstance(module, PreTrainedModel):
                self._hooks.append(module.register_forward_hook(self._count_call, with_kwargs=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if self._lane_macs is not None:
            self._lane_macs.detach()
        for populations, _ in self._readings.values():
            populations.recorders.clear()
        for island in self._islands.values():
            island.counts = None
        if self._execution.operated is not None:
            self._execution.operated.dense = None
        for counts in self.sites.values():
            counts.site.node.count_spikes = False
            counts.site.node.recorder = None
            counts.site.node.reset_counts()

    def _count_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if self._execution.call is not None or watching.in_backward():
            return  # a model inside of the one that was called, or one that is computed again
        if self.lanes is not None and self._execution.name != "temporal":
            return
        size = size_of(arguments_of(module, args, kwargs))
        with _COUNTING:
            self.tokens, self.samples = self.tokens + size.tokens, self.samples + size.samples

    def _count_reading(self, readings: ReadingSpikes, counts: WindowCounts, shape: torch.Size, fan_out: FanOut) -> None:
        if not watching.in_backward():
            live = self._known(fan_out.live)
            with _COUNTING:
                readings.add(counts, shape, fan_out, live)

    def live_of(self, record: WindowRecord) -> Live | None:
        """Which neurons of a window [B, ...] take part; None: all."""
        fan_out = record.fan_out
        return self._known(self._execution.live_of(record.potential.shape) if fan_out is None else fan_out.live)

    def _known(self, live: Tensor | None) -> Live | None:
        call = self._execution.call
        if live is None or call is None:
            return None if live is None else Live(live)
        # Layers share the mask of a call; it is kept with what is computed of it, so that its id stays its own.
        known = call.notes.setdefault(self, {})
        if id(live) not in known:
            known[id(live)] = (live, Live(live))
        found: Live = known[id(live)][1]
        return found

    @property
    def lanes(self) -> Lanes | None:
        """Of a network of rate codes; None of all others."""
        return self._execution.lanes

    @property
    def time_steps(self) -> int:
        """Steps of a train: T, and of rate codes those before them too."""
        return self._execution.time_steps

    @property
    def spikes_per_neuron(self) -> float:
        """Over the sites that feed a weight matrix, weighted by fan-out: spikes per synapse and window.

        Over all sites, of a network of rate codes in which none does, since gates stand between.
        """
        counted: list[SiteSpikes | ReadingSpikes] = [*self.sites.values(), *self.readings.values()]
        feeding = [counts for counts in counted if counts.site.feeds == "weights"]
        if self.lanes is not None and not feeding:
            neurons = sum(counts.neurons for counts in counted)
            return sum(counts.spikes for counts in counted) / neurons if neurons else 0.0
        # A site has a fixed fan-out, or each window its own, and the other of both counts is 0.
        synapses = sum(counts.neurons * counts.site.fan_out + counts.synapses for counts in feeding)
        events = sum(counts.spikes * counts.site.fan_out + counts.synaptic_operations for counts in feeding)
        return events / synapses if synapses else 0.0

    @property
    def firing_rates(self) -> dict[str, list[float]]:
        """Spikes per neuron at each time step, by site."""
        return {name: counts.trains.firing_rate for name, counts in self.sites.items()}


class _Recorder:
    """Adds one window of one site to its counts."""

    def __init__(self, monitor: SpikeMonitor, name: str, counts: SiteSpikes) -> None:
        self.monitor = monitor
        self.name = name
        self.counts = counts

    def __call__(self, node: WindowNode, record: WindowRecord) -> None:
        if watching.in_backward():  # gradient checkpointing runs layers again whose windows were counted before
            return
        live = self.monitor.live_of(record)
        with _COUNTING:
            self.counts.add(record, live)
            if self.monitor.train_sample is not None:
                mask = None if live is None else live.mask
                self.monitor.train_sample.add(self.name, node, record, mask)
