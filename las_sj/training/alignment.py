"""What the sites of a network of rate codes emit, beside what the ANN's activations are for the same inputs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from las_sj.models.execution import execution_of, running
from las_sj.models.rate_coded.activation import RateCodedActivation
from las_sj.models.rate_coded.network import named_activations


@dataclass(frozen=True)
class Aligned:
    """A batch seen by the ANN and by the network.

    Attributes:
        ann, snn: by site: activations of the ANN and values of spike trains, [B, ..., C]; the latter may have a
            gradient.
        ann_output, snn_output: first float tensor that the model returns, [B, ...].
        of_logits: whether these are logits; a model without a head returns hidden states.
    """

    ann: dict[str, Tensor]
    snn: dict[str, Tensor]
    ann_output: Tensor
    snn_output: Tensor
    of_logits: bool = True

    def errors(self, mask: Tensor | None = None) -> dict[str, Tensor]:
        """E of each site: the mean squared difference between its value and the ANN's, over all that is no padding.

        Args:
            mask: of tokens, bool [B, S]; None without padding.
        """
        return {name: mean_square(value - self.ann[name], mask) for name, value in self.snn.items()}


def aligned(model: nn.Module, batch: Mapping[str, Any]) -> Aligned:
    """Run a batch in the accumulated execution, without gradients, and in time.

    Args:
        model: a network of rate codes, in evaluation mode.
        batch: its keyword arguments.
    """
    ann, ann_output = _of_ann(model, batch)
    lanes = execution_of(model).lanes
    assert lanes is not None
    with running(model, "temporal"), outputs_of(model) as trains:
        snn_output = first_float(model(**batch))
    snn = {name: lanes.mean(train) for name, train in trains.items()}
    return Aligned(ann, snn, first_float(ann_output), snn_output, _has_logits(ann_output))


def activations_of_ann(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """What the activations of the ANN are, [B, ..., C] by site: of the accumulated execution alone.

    Args:
        model: a network of rate codes, in evaluation mode.
        batch: its keyword arguments.
    """
    return _of_ann(model, batch)[0]


@torch.no_grad()
def _of_ann(model: nn.Module, batch: Mapping[str, Any]) -> tuple[dict[str, Tensor], Any]:
    with running(model, "accumulated"), outputs_of(model) as ann:
        output = model(**batch)
    return ann, output


def first_float(output: Any) -> Tensor:
    """The first float tensor of an output that is no loss."""
    return _first_float(output)[1]


def _first_float(output: Any) -> tuple[str, Tensor]:
    """It, and its name where the output has names."""
    items = output.items() if isinstance(output, dict) else (("", value) for value in _listed(output))
    return next(
        (name, value)
        for name, value in items
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim()
    )


def _listed(output: Any) -> tuple[Any, ...]:
    return output if isinstance(output, tuple) else (output,)


def _has_logits(output: Any) -> bool:
    """Whether the first float tensor is one of logits, as far as its name tells."""
    name, _ = _first_float(output)
    return not name or "logits" in name


@contextmanager
def outputs_of(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Within this context what each site of a model emits is kept, by name."""
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            kept[name] = output

        return hook

    handles = [activation.register_forward_hook(keep(name)) for name, activation in named_activations(model)]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def mean_square(difference: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of squares, over all elements that are no padding; a mask is used where it fits."""
    return unpadded(difference, mask).float().square().mean()


def unpadded(values: Tensor, mask: Tensor | None) -> Tensor:
    """Values of tokens that are no padding, [N, C] of [B, S, C], or of [B·S, C]; all where a mask does not fit."""
    if mask is None:
        return values
    if values.dim() == 3 and mask.shape == values.shape[:2]:
        return values[mask]
    if values.dim() == 2 and len(values) == mask.numel():  # OPT has all tokens in one row
        return values[mask.reshape(-1)]
    return values


def mask_of_tokens(batch: Mapping[str, Any]) -> Tensor | None:
    """Which tokens of a batch are no padding, bool [B, S]; None where nothing tells."""
    mask = batch.get("attention_mask")
    return mask.bool() if isinstance(mask, Tensor) and mask.dim() == 2 else None


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within this context a model is in evaluation mode; afterwards each module is in the mode that it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


class Found(Exception):  # noqa: N818
    """Ends a call once what it was made for is known."""


@torch.no_grad()
def currents_of(model: nn.Module, site: RateCodedActivation, batch: Mapping[str, Any]) -> Tensor:
    """What a site receives in a temporal call, [T, B, ..., C]; the call ends there.

    Args:
        model: a network of rate codes.
        site: of it.
        batch: keyword arguments.
    """
    kept: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Any, ...]) -> None:
        kept.append(execution_of(model).split_time(args[0]))
        raise Found

    handle = site.register_forward_pre_hook(keep)
    try:
        with running(model, "temporal"):
            model(**batch)
    except Found:
        return kept[0]
    finally:
        handle.remove()
    raise RuntimeError("the site was not reached: the model does not call it for this batch")
