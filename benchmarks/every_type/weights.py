"""Random weights that hide nothing: wide, so that no function is nearly linear, with biases and gains that matter."""

import re
from typing import Any

import torch
from torch import Tensor, nn

Model = Any  # a PreTrainedModel, of whose attributes type checkers know nothing

# Time constants of recurrences keep the values that their module gives them: others would not be stable.
_OF_RECURRENCES = re.compile(r"A_log|dt_bias|^D$|time_decay|time_first|time_mix")


@torch.no_grad()
def randomize(model: Model) -> Model:
    """Draw the weights of a model anew, in place, always the same; and set it to evaluation."""
    torch.manual_seed(0)
    made_by_code = [model.get_parameter_or_buffer(name) for name in model._keys_to_ignore_on_save or ()]
    drawn = {id(weight) for weight in made_by_code}  # these are never saved; tied ones are drawn once
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            if id(weight) not in drawn and weight.is_floating_point() and weight.numel():
                drawn.add(id(weight))
                if not _OF_RECURRENCES.search(name):
                    _draw(weight, module)
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.weight is not None:
            _bring_to_one(module.weight)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx] = 0
    return model.eval()


def _bring_to_one(gains: Tensor) -> None:
    """Gains around 1 where a type begins with those around 0, which would make constants of all that follows."""
    if float(gains.mean()) < 0.5:
        gains.add_(1)


def _draw(weight: Tensor, module: nn.Module) -> None:
    noise = torch.randn_like(weight)
    if weight.dim() <= 1:
        weight.add_(0.1 * noise)
    elif isinstance(module, nn.Embedding):
        weight.copy_(0.5 * noise)
    elif isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
        weight.copy_(noise * 1.2 / weight[0].numel() ** 0.5)
    elif float(weight.abs().max()) < 0.5:
        weight.copy_(0.2 * noise)
    else:
        weight.add_(0.1 * noise)
