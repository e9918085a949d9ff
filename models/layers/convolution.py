"""Convolutions over patches that do not overlap: how images enter vision towers."""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from las_sj.models.layers.site import Site, Synapses
from las_sj.models.layers.spiking_forms import spiking_form_of
from las_sj.models.layers.spiking_layer import SpikingLayer
from las_sj.models.neuron_factory import NeuronFactory
from las_sj.neurons import WindowNode


def divides_into_patches(module: nn.Module) -> bool:
    """Whether a module is a convolution whose kernels lie side by side, so that each input goes to one patch."""
    return (
        isinstance(module, nn.Conv2d | nn.Conv3d)
        and tuple(module.kernel_size) == tuple(module.stride)
        and module.padding in ("valid", (0,) * len(module.kernel_size))
        and set(module.dilation) == {1}
        and module.groups == 1
    )


@spiking_form_of(nn.Conv2d, nn.Conv3d, when=divides_into_patches)
class SpikingPatchEmbedding(SpikingLayer):
    """A patch embedding, [T·B, C, ...] currents to [T·B, C_out, ...]: each value of a patch is coded by a neuron, whose
    spikes go to all output channels."""

    weight: Tensor
    bias: Tensor | None
    kernel_size: tuple[int, ...]
    out_channels: int
    input_node: WindowNode

    def equip(self, factory: NeuronFactory) -> None:
        self.input_node = factory.coder()

    def sites(self) -> Iterator[Site]:
        synapses = Synapses("", self.out_channels, is_mac=True, bias=self.bias is not None)
        yield Site("input_node", self.input_node, "weights", (synapses,))

    def forward(self, x: Tensor) -> Tensor:
        patches, grid = self._patches(x)
        bias = None if self.bias is None else self.per_step(self.bias)
        y = F.linear(self.fire(self.input_node, patches), self.weight.flatten(1), bias)
        return y.transpose(1, 2).unflatten(2, grid)

    def _patches(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """[N, C, height, width] (or with depth) to [N, patches, C·kernel], and how many patches lie along each axis.

        What is left over at the far edges belongs to no patch.
        """
        for axis, size in enumerate(self.kernel_size):
            place = 2 + 2 * axis
            count = x.shape[place] // size
            x = x.narrow(place, 0, count * size).unflatten(place, (count, size))
        axes = range(2, x.dim(), 2)
        grid = tuple(x.shape[axis] for axis in axes)
        x = x.permute(0, *axes, 1, *(axis + 1 for axis in axes))
        return x.flatten(1 + len(grid)).flatten(1, len(grid)), grid
