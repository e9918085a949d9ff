"""Thresholds of a network of rate codes: what they are, and where they come from."""

from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

from las_sj.models.rate_coded.network import named_activations
from las_sj.training.errors import TrainingError


def thresholds_in(model: PreTrainedModel) -> dict[str, float]:
    """The threshold θ of each site, in the order of the model; the mean of those of its channels."""
    return {name: float(activation.theta.detach().mean()) for name, activation in named_activations(model)}


@torch.no_grad()
def set_thresholds(model: PreTrainedModel, value: float) -> None:
    """Have all sites begin with the same threshold."""
    for _, activation in named_activations(model):
        activation.theta.fill_(value)


@torch.no_grad()
def take_thresholds(model: PreTrainedModel, folder: Path) -> list[str]:
    """Copy thresholds of a rate-coded checkpoint to the sites of the same names.

    Args:
        model: a network of rate codes.
        folder: of the checkpoint.

    Returns:
        The names of these sites; others keep what they have.

    Raises:
        TrainingError: no site has the name of one of the checkpoint, or a threshold has another shape.
    """
    stored = _stored_in(folder)
    taken = []
    for name, activation in named_activations(model):
        theta = stored.get(f"{name}.node.theta")
        if theta is None:
            continue
        if theta.shape != activation.theta.shape:
            raise TrainingError(
                f"{name} has thresholds {[*theta.shape]} in {folder}, {[*activation.theta.shape]} here: give a "
                "checkpoint of the same conversion"
            )
        activation.theta.copy_(theta)
        taken.append(name)
    if not taken:
        raise TrainingError(f"{folder} has thresholds of other sites than the model: give the output of its step 1")
    return taken


def _stored_in(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        with safe_open(path, framework="pt") as file:
            names = [*file.keys()]
            found |= {name: file.get_tensor(name) for name in names if name.endswith(".node.theta")}
    return found


def check_thresholds(model: PreTrainedModel) -> None:
    """Raise a TrainingError where a threshold has become zero, negative, infinite or NaN: its site is dead."""
    for name, activation in named_activations(model):
        theta = activation.theta.detach()
        if not bool((theta.isfinite() & (theta > 0)).all()):
            raise TrainingError(
                f"the threshold of {name} has become {float(theta.min()):.3g}: train with a smaller "
                "--threshold-learning-rate"
            )
