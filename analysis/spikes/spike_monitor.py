"""Count the spikes of a converted model, site by site, while it runs."""

import inspect
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from las_sj.analysis.spikes.site_spikes import Live, SiteSpikes
from las_sj.analysis.spikes.train_sample import TrainSample
from las_sj.models import AnalogIsland, execution_of, named_sites
from las_sj.models.layers.analog import IslandTally
from las_sj.neurons import WindowNode

SAMPLE = 256
INPUTS = ("input_ids", "inputs_embeds", "pixel_values")


class SpikeMonitor:
    """Within this context every call of `model`, in either execution, is counted; constant in memory.

        with SpikeMonitor(model) as monitor:
            model(**batch)
        monitor.spikes_per_neuron

    Spikes, neurons, synaptic operations, outliers and inputs out of range are counted exactly. Statistics of the trains
    (firing rate by time step, levels, silent and saturated neurons: `sites[name].trains`) come from a sample.

    Args:
        model: a converted model.
        sample: neurons sampled of each site in the first four windows, and in every eighth after them, for statistics
            of the trains; None looks at all, exactly.
        keep_trains: spike trains kept of each site, for plots and export (`train_sample`); 0 keeps none.

    Attributes:
        model: the model.
        sites: counts by the full name of the neurons' node.
        tokens, samples: tokens (padding excluded) and sequences or images that went in, call by call: a sequence that
            `generate` extends by four tokens without a cache counts four times.
        train_sample: the trains that were kept, or None.
        islands: counts of the parts that stayed analog, by name.

    Raises:
        ValueError: the model is not converted, or (on entering) counted by another monitor.
    """

    def __init__(self, model: PreTrainedModel, sample: int | None = SAMPLE, keep_trains: int = 0) -> None:
        self._execution = execution_of(model)
        self._hooks: list[Any] = []
        self._size = (0, 0)  # of the call under way
        self._live: dict[int, tuple[Tensor, Live]] = {}
        self.model = model
        self.sites = {name: SiteSpikes(site, sample) for name, site in named_sites(model)}
        self._islands = {name: part for name, part in model.named_modules() if isinstance(part, AnalogIsland)}
        self.islands = {name: IslandTally() for name in self._islands}
        self.tokens = self.samples = 0
        self.train_sample = TrainSample(keep_trains) if keep_trains else None

    def __enter__(self) -> "SpikeMonitor":
        if any(counts.site.node.recorder is not None for counts in self.sites.values()):
            raise ValueError("another monitor counts this model already: leave its context first")
        for name, counts in self.sites.items():
            counts.site.node.count_spikes = True
            counts.site.node.recorder = _Recorder(self, name, counts)
        for name, island in self._islands.items():
            island.tally = self.islands[name]
        for module in self.model.modules():
            if isinstance(module, PreTrainedModel):  # calls may go to a model inside of the model
                self._hooks.append(module.register_forward_pre_hook(self._begin_call, with_kwargs=True, prepend=True))
                self._hooks.append(module.register_forward_hook(self._end_call))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._live.clear()
        for island in self._islands.values():
            island.tally = None
        for counts in self.sites.values():
            counts.site.node.count_spikes = False
            counts.site.node.recorder = None
            counts.site.node.reset_counts()

    def _begin_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._execution.calls:  # a model inside of the one that was called
            return
        named = dict(zip(inspect.signature(module.forward).parameters, args, strict=False)) | kwargs
        self._live.clear()
        mask = named.get("attention_mask")
        padded = isinstance(mask, Tensor) and not bool(mask.all())
        for counts in self.sites.values():
            counts.site.node.tally.each = padded  # without padding totals will do
        self._size = _size_of(named)

    def _end_call(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if not self._execution.calls:
            self.tokens, self.samples = self.tokens + self._size[0], self.samples + self._size[1]

    def live_of(self, node: WindowNode, v: Tensor) -> Live | None:
        """Which neurons of a window [B, ...] take part; None: all."""
        mask = self._execution.mask_of(v) if node.tally.live is None else node.tally.live
        if mask is None:
            return None
        if id(mask) not in self._live:
            # Layers share the mask of a call; it is kept with what is computed of it, so that its id stays its own.
            whole = mask if node.tally.live is not None else mask.unsqueeze(-1)
            self._live[id(mask)] = (mask, Live(whole))
        return self._live[id(mask)][1]

    @property
    def time_steps(self) -> int:
        """T."""
        return self._execution.time_steps

    @property
    def spikes_per_neuron(self) -> float:
        """Over the sites that feed a weight matrix, weighted by fan-out: spikes per synapse and window."""
        feeding = [counts for counts in self.sites.values() if counts.site.feeds == "weights"]
        synapses = sum(counts.neurons * counts.site.fan_out for counts in feeding)
        events = sum(counts.spikes * counts.site.fan_out for counts in feeding)
        return events / synapses if synapses else 0.0

    @property
    def firing_rates(self) -> dict[str, list[float]]:
        """Spikes per neuron at each time step, by site."""
        return {name: counts.trains.firing_rate for name, counts in self.sites.items()}


def _size_of(named: dict[str, Any]) -> tuple[int, int]:
    """Tokens and samples of a call's arguments; a mask that is not [B, S] does not tell padding."""
    source = next((named[name] for name in INPUTS if isinstance(named.get(name), Tensor)), None)
    if source is None:
        return 0, 0
    mask = named.get("attention_mask")
    if isinstance(mask, Tensor) and mask.dim() == 2 and mask.shape == source.shape[:2]:
        return int(mask.bool().sum()), len(source)
    return source.shape[0] * source.shape[1] if source.dim() < 4 else 0, len(source)


class _Recorder:
    """Adds one window of one site to its counts."""

    def __init__(self, monitor: SpikeMonitor, name: str, counts: SiteSpikes) -> None:
        self.monitor = monitor
        self.name = name
        self.counts = counts

    def __call__(self, node: WindowNode, v: Tensor, emitted: Tensor) -> None:
        v = v.detach()
        live = self.monitor.live_of(node, v)
        self.counts.add(v, live)
        if self.monitor.train_sample is not None:
            self.monitor.train_sample.add(self.name, node, v, None if live is None else live.mask)
