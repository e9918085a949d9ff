"""Thresholds of a network of rate codes: what they are, and where they come from."""

from collections.abc import Mapping

import torch
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
def take_thresholds(model: PreTrainedModel, stored: Mapping[str, Tensor], source: str) -> list[str]:
    """Copy thresholds of another network of rate codes to the sites of the same names.

    Args:
        model: a network of rate codes.
        stored: thresholds by site.
        source: where they come from, for messages.

    Returns:
        The names of these sites; others keep what they have.

    Raises:
        TrainingError: no site has one of the names, or a threshold has another shape.
    """
    taken = []
    for name, activation in named_activations(model):
        theta = stored.get(name)
        if theta is None:
            continue
        if theta.shape != activation.theta.shape:
            raise TrainingError(
                f"{name} has thresholds {[*theta.shape]} in {source}, {[*activation.theta.shape]} here: give a "
                "checkpoint of the same conversion"
            )
        activation.theta.copy_(theta)
        taken.append(name)
    if not taken:
        raise TrainingError(f"{source} has thresholds of other sites than the model: give the output of its step 1")
    return taken


def check_thresholds(model: PreTrainedModel) -> None:
    """Raise a TrainingError where a threshold has become zero, negative, infinite or NaN: its site is dead."""
    for name, activation in named_activations(model):
        theta = activation.theta.detach()
        if not bool((theta.isfinite() & (theta > 0)).all()):
            raise TrainingError(
                f"the threshold of {name} has become {float(theta.min()):.3g}: train with a smaller "
                "--threshold-learning-rate"
            )
