"""LayerNorm and RMSNorm in spike-equivalent form (LAS, arXiv 2505.09659).

Centred values are coded by OAT neurons; their squares come from HG neurons, whose mean is linear; 1/√· comes from HG
neurons; the product of the two is a spike Hadamard product, coded again before the gains γ, which are weights. In the
short form squares are a product too, 1/√· is coded where it is computed, and the layers that follow code the output.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from las_sj.models.layers.products import gained_product, spiking_product
from las_sj.models.layers.site import Dense, Site, Synapses
from las_sj.models.layers.spiking_forms import spiking_form_of
from las_sj.models.layers.spiking_layer import SpikingLayer
from las_sj.models.neuron_factory import NeuronFactory
from las_sj.neurons import CentredOctaves, HGNode, RowOctaves, ThresholdNode, fused
from las_sj.neurons.precision import HALF, single


def is_rms_norm(module: nn.Module) -> bool:
    """Whether a module is an RMSNorm with gains: each model of transformers has a class of its own for it."""
    return type(module).__name__.endswith("RMSNorm") and hasattr(module, "weight")


@spiking_form_of(nn.Module, when=is_rms_norm)
class SpikingRMSNorm(SpikingLayer):
    """RMSNorm, x·γ/√(mean(x²) + ε), with five populations of neurons, or two: [T·B, ..., C] to [T·B, ..., C]."""

    centres: bool = False  # whether the mean is subtracted
    is_short: bool = False  # whether there are two populations, centred and scale, and the output is currents
    weight: Tensor
    eps: float
    variance_epsilon: float
    centred_node: ThresholdNode
    square_node: HGNode
    rsqrt_node: HGNode
    scale_node: ThresholdNode
    output_node: ThresholdNode
    octaves: CentredOctaves

    def equip(self, factory: NeuronFactory) -> None:
        self.centred_node = factory.coder()
        self.is_short = factory.fewer_stages
        if self.is_short:
            self.scale_node = factory.coded("rsqrt")
        else:
            self.square_node = factory.non_linearity("square")
            self.rsqrt_node = factory.non_linearity("rsqrt")
            self.scale_node = factory.coder()
            self.output_node = factory.coder()
            self.output_node.octaves = RowOctaves()
        self.centred_node.octaves = self.octaves = CentredOctaves(self.scale_node, self.epsilon)
        self.scale_node.octaves = RowOctaves()

    def sites(self) -> Iterator[Site]:
        # A centred spike goes into the squares and into the product with the scale, which has a term for each channel.
        opens = self._opens_gates()
        dense = (*self.dense(), opens)
        if self.is_short:
            yield from self._short_sites(dense)
            return
        yield self._centred_site((Synapses("", 2),), dense)
        yield Site("square_node", self.square_node, "neuron", (Synapses("", 1),))
        yield Site("rsqrt_node", self.rsqrt_node, "neuron", (Synapses("", 1),))
        yield Site("scale_node", self.scale_node, "product", (Synapses("", self.channels),))
        yield Site("output_node", self.output_node, "product", (Synapses("", 1),), (opens,))

    def _short_sites(self, dense: tuple[Dense, ...]) -> Iterator[Site]:
        """Both operands of a square are the same spike; gains make a weighted sum of each operand of the product."""
        each = 1 if self.gains is None else 2
        bias = () if getattr(self, "bias", None) is None else (Dense("", additions=1, native=True),)
        yield self._centred_site((Synapses("", 2 + each),), (*dense, *bias))
        yield Site("scale_node", self.scale_node, "product", (Synapses("", each * self.channels),))

    def _centred_site(self, synapses: tuple[Synapses, ...], dense: tuple[Dense, ...]) -> Site:
        channels = self.channels if self.weight.dim() == 1 else None
        return Site("centred_node", self.centred_node, "product", synapses, dense, native="norm", channels=channels)

    def _opens_gates(self) -> Dense:
        """Octave gates look for the largest potential of a row: a comparison for each neuron, once a window.

        Those of the scale, one neuron a row, are opened by the sub-neuron of 1/√· that is open.
        """
        return Dense("", additions=1, native=True, share=1 / self.execution.time_steps)

    @property
    def channels(self) -> int:
        """Values that are normalised together."""
        shape = getattr(self, "normalized_shape", None)  # RMSNorm of transformers has none, but gains
        return math.prod(shape if shape is not None else self.weight.shape)

    def dense(self) -> tuple[Dense, ...]:
        """The residual or position that is added before the norm."""
        return (Dense("residual", additions=1),)

    @property
    def epsilon(self) -> float:
        """ε under its name in this class."""
        return float(self.variance_epsilon if hasattr(self, "variance_epsilon") else self.eps)

    @property
    def gains(self) -> Tensor | None:
        """γ, [C]."""
        return self.weight

    def centre(self, x: Tensor) -> Tensor:
        """The linear step before the norm; none here."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        y = self._in_one_pass(x)
        if y is not None:
            return y
        wide = single(x)  # as transformers computes norms; so do kernels that take half precision
        y = None if wide is x else self._in_one_pass(wide)
        return (self._each_population(wide) if y is None else y).to(x.dtype)

    def _in_one_pass(self, x: Tensor) -> Tensor | None:
        if self.is_short:
            return None
        nodes = (self.centred_node, self.square_node, self.rsqrt_node, self.scale_node, self.output_node)
        ends = self.gains, getattr(self, "bias", None)  # RMSNorm has no bias
        gains, bias = (end if end is None or x.dtype in HALF else end.to(x.dtype) for end in ends)
        x_seq, temporal = self.window(x), self.execution.temporal
        live = self.execution.live_of(x_seq.shape[1:])
        y = fused.norm(nodes, x_seq, gains, bias, self.epsilon, centres=self.centres, as_train=temporal, live=live)
        return None if y is None else self.close_window(y)

    def _each_population(self, x: Tensor) -> Tensor:
        x = self.centre(x)
        centred = self.fire(self.centred_node, x)
        squares = self._product(centred, centred) if self.is_short else self.fire(self.square_node, centred)
        variance = squares.mean(-1, keepdim=True) + self._epsilon_of_rows(x)
        bias = getattr(self, "bias", None)  # RMSNorm has none
        gains = self.gains
        if self.is_short:
            output = self._product(centred, self.fire(self.scale_node, variance), gains)
            return output if bias is None else output + self.per_step(bias)
        scale = self.fire(self.scale_node, self.fire(self.rsqrt_node, variance))  # [T·B, ..., 1]
        output = self.fire(self.output_node, self._product(centred, scale))
        if gains is None:
            return output
        return output * gains if bias is None else torch.addcmul(self.per_step(bias), output, gains)

    def _product(self, a: Tensor, b: Tensor, gains: Tensor | None = None) -> Tensor:
        """a∘b, times γ ([C]) where it is given; of trains [T·B, ...] as currents."""
        if not self.execution.temporal:
            return a * b if gains is None else a * b * gains
        a, b = self.execution.split_time(a), self.execution.split_time(b)
        return self.execution.merge_time(spiking_product(a, b) if gains is None else gained_product(a, b, gains))

    def _epsilon_of_rows(self, x: Tensor) -> Tensor | float:
        """ε as a current, in the units of each row's octave: a number, or [T·B, ..., 1]."""
        if self.centred_node.bypass:
            return self.per_step(self.epsilon)
        if not self.execution.temporal:
            return self.octaves.shifted(self.centred_node, x)
        shifted = self.octaves.shifted(self.centred_node, self.execution.split_time(x).sum(0))
        return self.per_step(shifted.repeat(self.execution.time_steps, *[1] * (x.dim() - 1)))


@spiking_form_of(nn.LayerNorm)
class SpikingLayerNorm(SpikingRMSNorm):
    """LayerNorm, (x − mean(x))·γ/√(var(x) + ε) + β, with five populations, or two: [T·B, ..., C] to [T·B, ..., C]."""

    centres = True

    def dense(self) -> tuple[Dense, ...]:
        """The residual, the mean, and its subtraction."""
        return *super().dense(), Dense("", additions=2, native=True)  # the mean, and its subtraction

    def centre(self, x: Tensor) -> Tensor:
        """x − mean(x) over the channels."""
        return x - x.mean(-1, keepdim=True)
