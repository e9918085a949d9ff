"""What coding errors of each population do to the output, to second order, streamed over calibration data."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from tqdm import tqdm
from transformers import PreTrainedModel

from las_sj.checkpoint.placement import input_device
from las_sj.conversion.structure import bypassed_coding
from las_sj.data.batches import Batch, to_device
from las_sj.models import Site, execution_of, named_sites, running
from las_sj.neurons import ThresholdNode
from las_sj.neurons.thresholds import BINS, magnitude_bins
from las_sj.optimisation.divergence import predicts, rows_of, scores_of
from las_sj.optimisation.errors import OptimisationError

MASSIVE = 16  # a code of eight steps has four octaves left for values so much smaller


@dataclass
class Massive:
    """Channels whose values are far larger than those of the others, and what was seen of them.

    Attributes:
        channels: which they are, bool [C].
        seen: of these alone.
    """

    channels: Tensor
    seen: "Sensitivity"


@dataclass
class Sensitivity:
    """Of one population.

    Attributes:
        counts: histogram of the magnitudes that it codes, int64 [BINS].
        weights: squared gradients of the values in each bin, summed and over the number of predictions, fp64 [BINS]:
            a squared error times its weight is the divergence that it causes.
        largest: the largest magnitude.
        massive: channels of which all this is kept apart; None where there are none.
    """

    counts: Tensor
    weights: Tensor
    largest: float = 0.0
    massive: Massive | None = None

    @classmethod
    def empty(cls) -> "Sensitivity":
        """Of a population that has seen nothing."""
        return cls(torch.zeros(BINS, dtype=torch.int64), torch.zeros(BINS, dtype=torch.float64))

    def add(self, v: Tensor, squares: Tensor, channels: int | None = None) -> None:
        """Take values and their squared gradients, of the same shape.

        Args:
            v: values, [..., C], or of any shape.
            squares: the gradients.
            channels: C, where massive channels are kept apart: those of the first values.
        """
        if v.numel() == 0:
            return
        if channels is not None and self.massive is None and not bool(self.counts.any()):
            apart = massive_channels(v)
            self.massive = Massive(apart.cpu(), Sensitivity.empty()) if bool(apart.any()) else None
        if self.massive is not None:
            apart = self.massive.channels.to(v.device)
            self.massive.seen.add(v[..., apart], squares[..., apart])
            v, squares = v[..., ~apart], squares[..., ~apart]
        bins = magnitude_bins(v)
        self.counts += torch.bincount(bins, minlength=BINS).cpu()
        self.weights += torch.bincount(bins, squares.reshape(-1).double(), minlength=BINS).cpu()
        self.largest = max(self.largest, float(v.abs().max()))

    @property
    def parts(self) -> list["Sensitivity"]:
        """Of ordinary channels, and of massive ones if there are any."""
        return [self] if self.massive is None else [self, self.massive.seen]

    @property
    def whole(self) -> "Sensitivity":
        """Of all channels together."""
        if self.massive is None:
            return self
        other = self.massive.seen
        return Sensitivity(self.counts + other.counts, self.weights + other.weights, max(self.largest, other.largest))


def massive_channels(v: Tensor) -> Tensor:
    """The channels of values [..., C] that reach `MASSIVE` times as far as half of those that are not 0, bool [C]."""
    largest = v.detach().abs().reshape(-1, v.shape[-1]).amax(0)
    reaching = largest[largest > 0]
    return largest > MASSIVE * (reaching.median() if len(reaching) else 0)


@dataclass
class Sensitivities:
    """Of all populations whose codes may be chosen.

    Attributes:
        sites: by the name of the node.
        predictions: how many the sums are of.
    """

    sites: dict[str, Sensitivity]
    predictions: int = 0


def coding_sites(model: nn.Module) -> dict[str, Site]:
    """Populations whose codes may be chosen, by name: all that code values."""
    return {name: site for name, site in named_sites(model) if isinstance(site.node, ThresholdNode)}


def gather(model: PreTrainedModel, batches: Iterable[Batch], seed: int = 0) -> Sensitivities:
    """The sensitivity of each population of a converted model, whose coding is bypassed meanwhile.

    Args:
        model: a converted model.
        batches: dicts of keyword arguments.
        seed: of the labels that are drawn.

    Raises:
        OptimisationError: there are no batches, or a gradient is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    found = Sensitivities({name: Sensitivity.empty() for name in coding_sites(model)})
    with running(model, "accumulated"), bypassed_coding(model), torch.enable_grad():
        for batch in tqdm(batches, desc="measuring sensitivities", unit="batch", leave=False):
            _add_batch(model, to_device(batch, input_device(model)), found, generator)
    if not found.predictions:
        raise OptimisationError("there is no calibration data: give at least one batch with a token")
    for name, sensitivity in found.sites.items():
        for part in sensitivity.parts:
            part.weights /= found.predictions
        if not all(bool(torch.isfinite(part.weights).all()) for part in sensitivity.parts):
            raise OptimisationError(f"gradients at {name} are infinite or NaN: check the model's weights")
    return found


def _add_batch(model: PreTrainedModel, batch: dict[str, Any], found: Sensitivities, generator: torch.Generator) -> None:
    with _watching(model, found.sites) as windows:
        output = model(**batch)[0]
    rows = rows_of(batch, output)
    values = [window.value for window in windows]
    squares = [torch.zeros_like(value.detach(), dtype=torch.float32) for value in values]
    scores = scores_of(rows, predicts(model), generator, independent=output.dim() == 2)
    for number, score in enumerate(scores, 1):
        gradients = torch.autograd.grad(score, values, retain_graph=number < len(scores), allow_unused=True)
        for square, gradient in zip(squares, gradients, strict=True):
            if gradient is not None:
                square += gradient.float().square_()
    for window, square in zip(windows, squares, strict=True):
        value = window.value.detach()
        if window.mask is not None:
            value, square = value[window.mask], square[window.mask]
        found.sites[window.site].add(value, square, window.channels)
    found.predictions += len(rows)


@dataclass(frozen=True)
class _Window:
    """Values that one population has coded in a call, [B, ...], with a graph.

    Attributes:
        site: name of its node.
        value: what it has coded.
        mask: False on padding, or None.
        channels: of the values, where thresholds may be one per channel.
    """

    site: str
    value: Tensor
    mask: Tensor | None
    channels: int | None


@contextmanager
def _watching(model: nn.Module, names: Mapping[str, Any]) -> Iterator[list[_Window]]:
    """Within this context windows of populations are kept."""
    windows: list[_Window] = []
    execution = execution_of(model)

    def watch(name: str, site: Site) -> RemovableHandle:
        def keep(node: nn.Module, args: Any, output: Tensor) -> Tensor:
            # A tensor of its own: a bypassed node returns its input, which may go on to a residual too.
            value = output.view_as(output) if output.requires_grad else output.detach().requires_grad_()
            windows.append(_Window(name, value, execution.mask_of(value), site.channels))
            return value

        return site.node.register_forward_hook(keep)

    handles = [watch(name, site) for name, site in named_sites(model) if name in names]
    try:
        yield windows
    finally:
        for handle in handles:
            handle.remove()
        for name, site in named_sites(model):
            if name in names:
                site.node.reset()  # a hook makes a node keep its membrane potential
