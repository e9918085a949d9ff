"""An output layer whose logits are soft-capped, c·tanh(logit/c), by HG neurons (Gemma 2)."""

from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import PretrainedConfig

from las_sj.models.hidden_option import HiddenOption
from las_sj.models.layers.linear import SpikingReadout
from las_sj.models.layers.site import Dense, Site, Synapses
from las_sj.models.neuron_factory import NeuronFactory
from las_sj.models.reclassed import Reclassed
from las_sj.neurons import HGNode

_AT_ONCE = 1 << 22  # logits whose windows are run at a time: [T, B, S, V] would not fit


class HidesLogitCap(Reclassed):
    """A config whose soft-cap of logits is None to modelling code during calls, because the readout caps."""

    final_logit_softcapping = HiddenOption()


class SoftcappedReadout(SpikingReadout):
    """A readout [T·B, ..., C] to [B, ..., V] whose membranes are read through HG neurons.

    Modelling code must not cap again: `config_mixin` hides the option from it.
    """

    absorbs = True
    config_mixin = HidesLogitCap
    cap: float | None
    cap_node: HGNode

    def configure(self, config: PretrainedConfig) -> None:
        self.cap = getattr(config, "final_logit_softcapping", None)  # a model around it may cap nothing

    def equip(self, factory: NeuronFactory) -> None:
        super().equip(factory)
        if self.cap is not None:
            self.cap_node = factory.non_linearity("tanh")

    def sites(self) -> Iterator[Site]:
        yield from super().sites()
        if self.cap is not None:
            capping = (Dense("softcap", scalings=2),)
            yield Site("cap_node", self.cap_node, "neuron", (Synapses("softcap", 1),), capping, native="tanh")

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        if self.cap is None:
            return logits
        rows = (logits / self.cap).flatten(0, -2)
        parts = rows.split(max(1, _AT_ONCE // (rows.shape[-1] * self.execution.time_steps)))
        capped = torch.cat([self._read(part) for part in parts]) if len(rows) else rows
        return capped.view(logits.shape) * self.cap

    def _read(self, membrane: Tensor) -> Tensor:
        """[N, V] to the sum of the trains of the neurons that read it."""
        if self.cap_node.step_mode == "m":
            return self.emit(self.cap_node, membrane.unsqueeze(0)).sum(0)
        return self.emit(self.cap_node, membrane)
