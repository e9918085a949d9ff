"""Linear layers that receive spikes: nn.Linear, GPT-2's Conv1D, and the readout."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from las_sj.models.adapters import adapted
from las_sj.models.layers.site import Site, Synapses
from las_sj.models.layers.spiking_forms import spiking_form_of
from las_sj.models.layers.spiking_layer import SpikingLayer
from las_sj.models.neuron_factory import NeuronFactory
from las_sj.neurons import HGNode, WindowNode, watching
from las_sj.neurons.buffers import BUFFERS
from las_sj.neurons.precision import HALF, single


def in_features(module: nn.Module) -> int:
    """Neurons that an nn.Linear or Conv1D takes the spikes of."""
    module = adapted(module)
    if isinstance(module, Conv1D):
        return int(module.nx)
    assert isinstance(module, nn.Linear)
    return module.in_features


def out_features(module: nn.Module) -> int:
    """Synapses per input neuron of an nn.Linear or Conv1D, or of the one inside of an adapter."""
    module = adapted(module)
    if isinstance(module, Conv1D):
        return int(module.nf)
    assert isinstance(module, nn.Linear)
    return module.out_features


def synapses_of(module: nn.Module, operator: str) -> Synapses:
    """What spikes find in an nn.Linear or Conv1D."""
    return Synapses(operator, out_features(module), is_mac=True, bias=adapted(module).bias is not None)


def is_plain(*tensors: Tensor | None) -> bool:
    """Whether a product may be written to memory that is ours: no gradient, no other kinds of tensor, no watchers."""
    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or watching.operations_are_followed():
        return False
    return all(x is None or type(x) in (Tensor, nn.Parameter) for x in tensors)


def _multiplied(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x·Wᵀ + b, [..., C_in] to [..., C_out], bit for bit as `F.linear` has it."""
    out = BUFFERS.empty((*x.shape[:-1], len(weight)), x)
    rows = out.view(-1, len(weight))
    if bias is None:
        torch.mm(x.reshape(-1, x.shape[-1]), weight.t(), out=rows)
    else:
        torch.addmm(bias, x.reshape(-1, x.shape[-1]), weight.t(), out=rows)
    return out


def through_weights(spikes: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x·Wᵀ + b as `F.linear` has it, [..., C_in] to [..., C_out], in memory that is used again where it can be."""
    if torch.compiler.is_compiling() or not BUFFERS.serve((*spikes.shape[:-1], len(weight)), spikes):
        return F.linear(spikes, weight, bias)
    return _multiplied(spikes, weight, bias) if is_plain(spikes, weight, bias) else F.linear(spikes, weight, bias)


class FedLinear(SpikingLayer):
    """A linear layer whose input is spikes already, because the layer around it codes it once for several.

    [T·B, ..., C_in] to [T·B, ..., C_out] currents; the bias enters as a constant current.
    """

    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        return self._synapses(x)

    def _synapses(self, spikes: Tensor) -> Tensor:
        bias = None if self.bias is None else self.per_step(self.bias)
        weight = self.weight.t() if isinstance(self, Conv1D) else self.weight
        return through_weights(spikes, weight, bias)


@spiking_form_of(nn.Linear, Conv1D)
class SpikingLinear(FedLinear):
    """A linear layer with a population of coding neurons before it: y = Σ_t W·s(t) + b, [T·B, ..., C_in] to C_out.

    A train that would be larger than `stream_from` bytes is made and used up for some tokens at a time.
    """

    input_node: WindowNode
    stream_from: int = 1 << 29

    def equip(self, factory: NeuronFactory) -> None:
        self.input_node = factory.coder()

    def sites(self) -> Iterator[Site]:
        yield Site("input_node", self.input_node, "weights", (synapses_of(self, ""),), channels=in_features(self))

    def forward(self, x: Tensor) -> Tensor:
        if self.execution.temporal and x.nbytes > self.stream_from and not self._is_followed(x):
            return self._stream(x)
        return self._synapses(self.fire(self.input_node, x))

    def _is_followed(self, x: Tensor) -> bool:
        trained = torch.is_grad_enabled() and any(p.requires_grad for p in (self.weight, self.bias) if p is not None)
        return trained or self.input_node.is_watched(x)

    def _stream(self, x: Tensor) -> Tensor:
        """The temporal call, without a train of all tokens."""
        x_seq = self.execution.split_time(x).flatten(1, -2)  # [T, tokens, C_in]
        out = BUFFERS.empty((*x_seq.shape[:2], out_features(self)), x)
        size = max(1, x_seq.shape[1] * self.stream_from // x.nbytes)
        for start in range(0, x_seq.shape[1], size):
            train = self.input_node(x_seq[:, start : start + size])
            for spikes, y in zip(train, out[:, start : start + size], strict=True):
                y.copy_(self._synapses(spikes))
        return out.view(*x.shape[:-1], -1)


class RectifiedLinear(SpikingLinear):
    """A linear layer, and HG neurons for the ReLU that follows it (DistilBERT): [T·B, ..., C_in] to [T·B, ..., C_out].

    Their currents are never negative, so the ReLU that follows changes nothing at any time step.
    """

    absorbs = True
    relu_node: HGNode

    def equip(self, factory: NeuronFactory) -> None:
        super().equip(factory)
        self.relu_node = factory.non_linearity("relu")

    def sites(self) -> Iterator[Site]:
        yield from super().sites()
        yield Site("relu_node", self.relu_node, "neuron", (Synapses("relu", 1),), native="relu")

    def forward(self, x: Tensor) -> Tensor:
        y = self.fire(self.relu_node, super().forward(x))
        if not (self.relu_node.bypass and self.execution.temporal):
            return y
        train = torch.zeros_like(y_seq := self.execution.split_time(y))
        train[0] = y_seq.sum(0)  # the shares of a bypassed window have both signs
        return self.execution.merge_time(train)


class FedReadout(FedLinear):
    """The output layer, whose input is spikes already: its membrane accumulates over T and is read at the end.

    Spikes [T·B, ..., C] to values [B, ..., V], so that no [T·B, ..., V] exists.
    """

    def forward(self, x: Tensor) -> Tensor:
        return (
            self._accumulated(self.execution.split_time(x)).to(x.dtype)
            if self.execution.temporal
            else self._synapses(x)
        )

    def _accumulated(self, train: Tensor) -> Tensor:
        """What the weights make of a train [T, B, ..., C], summed over T: [B, ..., V]."""
        weight = self.weight.t() if isinstance(self, Conv1D) else self.weight
        membrane = single(train.new_zeros((*train.shape[1:-1], weight.shape[0])))  # [B, ..., V]
        if torch.is_grad_enabled() and (train.requires_grad or weight.requires_grad):
            for spikes in train:
                membrane = membrane + F.linear(spikes, weight)
        else:
            flat = membrane.view(-1, weight.shape[0])
            for spikes in train:
                _add_matmul(flat, spikes.flatten(0, -2), weight.t())
        return membrane if self.bias is None else membrane + self.bias


class SpikingReadout(SpikingLinear, FedReadout):
    """The output layer with a population of coding neurons before it: currents [T·B, ..., C] to values [B, ..., V]."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.execution.temporal:
            return super().forward(x)
        return self._accumulated(self.emit(self.input_node, self.execution.split_time(x))).to(x.dtype)


def _add_matmul(out: Tensor, a: Tensor, b: Tensor) -> None:
    """out += a·b, [N, K] and [K, V]; of half precision to a sum in single precision."""
    if a.dtype in HALF:
        out.add_(torch.mm(a, b))
    else:
        out.addmm_(a, b)
