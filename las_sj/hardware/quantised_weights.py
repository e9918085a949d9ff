"""Weights of few bits, as a core's memory holds them, and what they lose."""

import copy

import torch
from torch import Tensor
from transformers import PreTrainedModel

from las_sj.hardware.populations import is_transposed, weight_of


@torch.no_grad()
def with_weight_bits(model: PreTrainedModel, bits: int) -> PreTrainedModel:
    """A copy of a model whose matrices have weights of so many bits, signed, with one scale for each output.

    Args:
        model: converted or not; left as it was.
        bits: of a weight, 2 or more.

    Raises:
        ValueError: fewer than 2 bits.
    """
    if bits < 2:
        raise ValueError(f"signed weights have 2 bits or more, got {bits}")
    model = copy.deepcopy(model)
    for module in model.modules():
        weight = weight_of(module)
        if weight is not None:
            weight.copy_(rounded(weight, bits, is_transposed(module)))
    return model


def rounded(weight: Tensor, bits: int, transposed: bool = False) -> Tensor:
    """Weights [F, ...] rounded to whole multiples of a step that the largest of each output tells.

    Args:
        weight: of any floating type.
        bits: of a weight, its sign among them.
        transposed: whether outputs are the last dimension, [C, F].
    """
    rows = (weight.t() if transposed else weight).detach().double()
    most = 2 ** (bits - 1) - 1
    step = rows.flatten(1).abs().amax(1).clamp_min(torch.finfo(torch.float64).tiny) / most
    step = step.view(-1, *[1] * (rows.dim() - 1))
    found = (rows / step).round().clamp(-most, most) * step
    return (found.t() if transposed else found).to(weight.dtype)
