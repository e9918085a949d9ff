"""Quantised activations in a model that is converted by operations: each is one function, with neurons of its own."""

from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from las_sj.models.layers.quantised import SpikingQuantiser
from las_sj.models.operations.operation import Operation
from las_sj.models.operations.registry import rule
from las_sj.models.operations.scope import active


def quantise(input: Tensor, layer: SpikingQuantiser) -> Tensor:
    """What a quantised activation makes of values, [..., C] to [..., C]; intercepted as torch functions are."""
    if has_torch_function((input,)):
        quantised: Tensor = handle_torch_function(quantise, (input,), input, layer)
        return quantised
    return layer.node.exact(input)


@rule("quantise")
def by_its_neurons(op: Operation, input: Tensor, layer: SpikingQuantiser) -> Tensor:
    """Binary spikes, which what follows codes anew."""
    return op.pass_through(layer.node, input)


class QuantiserOfOperations(SpikingQuantiser):
    """A `QCFSQuantizer` in a model that is converted by operations: [T·B, ..., C] to [T·B, ..., C]."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) if active() is None else quantise(input, self)
