"""Random-weight models as networks of rate codes, and what their neurons emit in a call."""

import copy
from typing import Any

import torch
from tiny_models import Model, calibration_batches, run
from torch import Tensor
from transformers import PreTrainedModel

import las_sj
from las_sj.models.rate_coded.network import named_activations

METHODS = ("fas", "qcfs", "srp", "cos")


def convert_to_rates(ann: PreTrainedModel, **settings: Any) -> Model:
    """A copy of `ann` as a network of rate codes, in its dtype."""
    return las_sj.convert(copy.deepcopy(ann), las_sj.FASConfig(**settings), calibration_batches())


def trains_of(model: PreTrainedModel, **batch: Tensor) -> dict[str, Tensor]:
    """What the neurons of each site emit in one temporal call, [T, B, ...], by the name of their node."""
    found: dict[str, Tensor] = {}
    hooks = [
        activation.node.register_forward_hook(
            lambda node, args, output, name=name: found.__setitem__(f"{name}.node", output.detach().clone())
        )
        for name, activation in named_activations(model)
    ]
    try:
        with torch.no_grad():
            run(model, "temporal", **batch)
    finally:
        for hook in hooks:
            hook.remove()
    return found
