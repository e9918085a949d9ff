"""A converted classifier in the harness of NeuroBench, with NeuroBench's own metrics. Needs the extra `neurobench`.

    columns = tokenizer.model_input_names
    loader = DataLoader(encoded_rows, batch_size=8, collate_fn=Stack(tokenizer))
    model = ConvertedClassifier(converted, columns)
    metrics = [[Footprint], [ClassificationAccuracy, ActivationSparsity, SynapticOperations]]
    Benchmark(model, loader, [], [], metrics).run()

NeuroBench (arXiv 2304.04640) reads what modules take and give. By itself it would take the currents that a spiking
linear layer receives for its spikes, and see no neurons; so this adapter shows it

- to ActivationSparsity, the spikes of every population, [T, B, ...];
- to SynapticOperations, the trains [T, B, ..., C] that reach each linear layer's weights;
- to ConnectionSparsity, the weights of all linear layers.

In a network of rate codes spikes are binary: it books those that come to a layer as ACs. All other linear layers run
once in each lane, as MACs.

What remains out of its sight: spikes of LAS have levels, so that it books every synaptic operation as a MAC, none as an
AC (those are spikes in {-1, 0, 1}); the products of attention and norms and all that neurons compute are no connections
to it; and it counts padding. docs/neurobench.md has the table.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DataCollatorWithPadding, PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from las_sj.models import execution_of, named_sites, set_execution
from las_sj.models.layers.linear import FedLinear, SpikingLinear
from las_sj.models.rate_coded.network import named_activations
from las_sj.neurons import WindowNode
from las_sj.neurons.rate_coded import RateCodedNode

try:
    from neurobench.hooks.layer import LayerHook
    from neurobench.hooks.neuron import NeuronHook
    from neurobench.models import NeuroBenchModel
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{error.name} not installed: pip install 'las_sj[neurobench]'", name=error.name
    ) from error


class ConvertedClassifier(NeuroBenchModel):
    """A converted sequence classifier as NeuroBench runs it: tokens to classes, in the temporal execution.

    Args:
        model: the output of `las_sj.convert`; it is left in the temporal execution.
        columns: names of the model's arguments, in the order in which a batch holds them.

    Raises:
        ValueError: the model is not converted, parts of it stayed analog though it is no network of rate codes, or it
            has linear layers that NeuroBench does not know (GPT-2's Conv1D).
    """

    def __init__(self, model: PreTrainedModel, columns: Sequence[str] = ("input_ids", "attention_mask")) -> None:
        super().__init__()
        set_execution(model, "temporal")
        execution = execution_of(model)
        analog = execution.coverage.analog
        if analog and execution.lanes is None:
            raise ValueError(f"{min(analog)} stayed analog, where there are no spikes to show: convert it too")
        if any(isinstance(module, Conv1D) for module in model.modules()):
            raise ValueError(f"{type(model).__name__} has Conv1D layers, and NeuroBench knows nn.Linear only")
        self.model = model.eval()
        self.columns = tuple(columns)
        self.network = _Network(model)

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        """Classes [B] for a batch [B, columns, S]."""
        logits: Tensor = self.model(**dict(zip(self.columns, batch.unbind(1), strict=True))).logits
        return logits.argmax(-1)

    def __net__(self) -> nn.Module:
        """The converted model, and its connections as NeuroBench looks for them; each parameter is in it once."""
        return self.network

    def register_hooks(self) -> None:
        """Show NeuroBench spikes where it would look at activations and inputs."""
        for name, site in named_sites(self.model):
            self.activation_hooks.append(SpikeHook(site.node, name))
        if execution_of(self.model).lanes is not None:
            self._hook_layers_of_rate_codes()
        for layer in self.model.modules():
            if isinstance(layer, FedLinear) and not isinstance(layer, SpikingLinear):
                self.connection_hooks.append(LayerHook(layer))  # spikes come in already
        for node, connection in self.network.fed_by_own_neurons():
            self.connection_hooks.append(TrainHook(node, connection))

    def _hook_layers_of_rate_codes(self) -> None:
        """Binary trains where neurons feed a layer, whose weights may contain thresholds; values in lanes elsewhere."""
        feeding = {activation.fed: activation.node for _, activation in named_activations(self.model)}
        for name, layer in self.model.named_modules():
            if isinstance(layer, nn.Linear):
                node = feeding.get(name)
                self.connection_hooks.append(LayerHook(layer) if node is None else TrainHook(node, layer))


class Stack:
    """A DataLoader's `collate_fn`: rows of a tokenizer and a label to (inputs [B, columns, S], labels [B]), padded.

    Args:
        tokenizer: its `model_input_names` are the columns.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.columns = tokenizer.model_input_names
        self.pad = DataCollatorWithPadding(tokenizer)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor]:
        batch = self.pad([dict(row) for row in rows])
        return torch.stack([batch[name] for name in self.columns], 1), batch["labels"]


class SpikeHook(NeuronHook):
    """Keeps the spikes of a population, as signed amplitudes [T, B, ...]; 0 is no spike.

    Not what the node gives: the bias of an HG neuron is no spike, and a spike of amplitude 0 is one.
    """

    def pre_hook_fn(self, layer: WindowNode | RateCodedNode, input: tuple[Tensor]) -> None:
        """Inputs are not kept: no metric reads them, and they are large."""

    def hook_fn(self, layer: WindowNode | RateCodedNode, input: tuple[Tensor], output: Tensor) -> None:
        """Keep the spikes of one window, as signed amplitudes [T, B, ...]."""
        is_binary = isinstance(layer, RateCodedNode)
        self.activation_outputs.append(output if is_binary else layer.spikes_of(input[0].sum(0)))


class TrainHook(LayerHook):
    """Keeps the trains [T, B, ..., C] that neurons inside a linear layer send into its weights.

    Args:
        node: the neurons.
        layer: the weights alone; NeuroBench runs a copy of it to count.
    """

    def __init__(self, node: WindowNode | RateCodedNode, layer: nn.Linear) -> None:
        super().__init__(None)
        self.node = node
        self.layer = layer
        self.register_hook()

    def register_hook(self) -> None:
        """Attach the hook to its layer."""
        self.hook = self.node.register_forward_hook(self.hook_fn)

    def hook_fn(self, module: nn.Module, input: tuple[Tensor], output: Tensor) -> None:
        """Keep the train that the node emitted, which is what the layer receives."""
        self.inputs.append((output,))


class _Network(nn.Module):
    """A converted model beside the weights that NeuroBench overlooks in it.

    It takes a linear layer that holds neurons for a container, so `connections` has an nn.Linear with the same
    parameter for each.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.layers = [layer for layer in model.modules() if isinstance(layer, SpikingLinear)]
        self.connections = nn.ModuleList(_weights_of(layer) for layer in self.layers)

    def fed_by_own_neurons(self) -> Iterator[tuple[WindowNode, nn.Linear]]:
        """Each connection with the neurons before it."""
        for layer, connection in zip(self.layers, self.connections, strict=True):
            assert isinstance(connection, nn.Linear)
            yield layer.input_node, connection


def _weights_of(layer: SpikingLinear) -> nn.Linear:
    """An nn.Linear with the very weights of a layer."""
    linear = nn.Linear(1, 1, bias=False, device="meta")
    linear.weight = layer.weight
    return linear
