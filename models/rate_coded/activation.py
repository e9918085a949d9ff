"""A quantised activation of a network, and the neurons that emit it as a rate code."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from las_sj.models.execution import Execution
from las_sj.models.inputs import source_of
from las_sj.models.layers.site import Site, Synapses
from las_sj.models.layers.spiking_layer import SpikingLayer
from las_sj.neurons import FanOut, WindowCounts, WindowRecord
from las_sj.neurons.rate_coded import QCFSQuantizer, RateCodedNode
from las_sj.neurons.rate_coded.quantizer import quantised


class RateCodedActivation(SpikingLayer):
    """An activation as a population of integrate-and-fire neurons, [T·B, ..., C] to [T·B, ..., C].

    In the accumulated execution it is the activation of L levels that the network is trained with, [B, ..., C] to
    [B, ..., C]. In a temporal call neurons emit binary spikes, each of which carries a threshold; what it carries is
    multiplied afterwards, and may be folded into the next weights.

    Args:
        node: the neurons.
        levels: L.
        clip_first: as in `QCFSQuantizer`.
        quantizer: the activation of the ANN, where neurons are calibrated and have thresholds of their own (FAS,
            step 3); else None.

    Attributes:
        fed: name of the linear layer that its output goes to, as the conversion has found it; "" where it goes
            elsewhere, such as into the product of a gate.
        consumer: synapses of each neuron there.
        feeds: "weights", or "product".
        bypass: whether each lane has the activation of the ANN: to check that lanes do not see each other.
    """

    prefix = ""
    quantizer: QCFSQuantizer | None

    def __init__(
        self, node: RateCodedNode, levels: int, clip_first: bool = True, quantizer: QCFSQuantizer | None = None
    ) -> None:
        super().__init__()
        self.node = node
        self.node.is_windowed = True
        self.quantizer = quantizer
        self.levels = levels
        self.clip_first = clip_first
        self.fed = ""
        self.consumer = Synapses("", 1)
        self.feeds = "product"
        self.bypass = False

    def join(self, execution: Execution) -> None:
        """Be a layer of the model with this execution."""
        self.__dict__["execution"] = execution
        self.node.time_steps = execution.time_steps

    @property
    def theta(self) -> nn.Parameter:
        """The threshold of the ANN's activation."""
        return self.node.theta if self.quantizer is None else self.quantizer.theta

    def quantiser_of_node(self) -> QCFSQuantizer:
        """An activation of the ANN with a copy of the neurons' thresholds."""
        theta = self.node.theta.detach()
        return QCFSQuantizer(theta, self.levels, self.clip_first).to(theta.device)

    def quantized(self, x: Tensor) -> Tensor:
        """The activation of the ANN, [..., C] to [..., C]."""
        return quantised(x, self.theta, self.levels, self.clip_first)

    def sites(self) -> Iterator[Site]:
        yield Site("node", self.node, self.feeds, (self.consumer,), native="")

    def forward(self, input: Tensor) -> Tensor:
        if not self.execution.temporal or self.bypass:
            return self.quantized(input)
        x_seq = self._by_position(self.execution.split_time(input))
        position = self._first_position(x_seq.shape[-2])
        spikes = self.node(x_seq, position)
        scale = self.node.scale_at(x_seq[0], position)
        if self.node.recorder is not None:
            self._record(x_seq, spikes, scale.detach())
        return (spikes * scale.to(spikes.dtype)).reshape(input.shape)

    def _record(self, x_seq: Tensor, spikes: Tensor, scale: Tensor) -> None:
        assert self.node.recorder is not None
        spikes, live = spikes.detach(), self.execution.live_of(x_seq.shape[1:])
        counted = spikes if live is None else spikes * live
        counts = WindowCounts(counts_spikes=True, spikes=counted.count_nonzero())
        record = WindowRecord(x_seq.detach().mean(0), spikes, counts, FanOut(live), spikes, scale)
        self.node.recorder(self.node, record)

    def _by_position(self, x_seq: Tensor) -> Tensor:
        """Tokens that lie in one row, [T, B·S, C], as [T, B, S, C] where thresholds depend on positions.

        Raises:
            ValueError: nothing tells which token is which.
        """
        if self.node.theta.dim() < 2 or x_seq.dim() > 3:
            return x_seq
        tokens = source_of(self._given())
        if tokens is None or tokens.dim() < 2 or tokens.shape[:2].numel() != x_seq.shape[1]:
            raise ValueError(
                f"an activation with thresholds of positions is given {list(x_seq.shape[1:])}, which does not tell the "
                "positions of its tokens: calibrate the network by channel"
            )
        return x_seq.unflatten(1, tuple(tokens.shape[:2]))

    def _first_position(self, tokens: int) -> int:
        """The position of the first of some tokens, where thresholds depend on it: after those that a cache holds."""
        given = self._given()
        cache = given.get("cache", given.get("past_key_values"))  # its name in older versions of transformers
        if self.node.theta.dim() < 2 or cache is None:
            return 0
        return max(0, int(cache.get_seq_length()) - tokens)  # attention has added these tokens by now

    def _given(self) -> dict[str, Any]:
        """The arguments of the call that is under way."""
        call = self.execution.call
        while call is not None and not call.is_entry:
            call = call.outer
        return {} if call is None else call.arguments

    def register_forward_pre_hook(self, hook: Callable[..., Any], **options: Any) -> Any:
        """As of `nn.Module`: hooks see lanes."""
        return nn.Module.register_forward_pre_hook(self, hook, **options)

    def register_forward_hook(self, hook: Callable[..., Any], **options: Any) -> Any:
        """As of `nn.Module`: hooks see lanes."""
        return nn.Module.register_forward_hook(self, hook, **options)

    def extra_repr(self) -> str:
        """Levels of the ANN's activation."""
        return f"levels={self.levels}"
