"""A model that is converted gets a config of its own: others may share the one that it has."""

import copy
from typing import Any

from torch import nn
from transformers import PreTrainedConfig


def own_config(model: nn.Module) -> None:
    """Put copies in the place of all configs that the modules of a model hold; the same copy of the same config."""
    copies: dict[int, Any] = {}
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, PreTrainedConfig):
                vars(module)[name] = copy.deepcopy(value, copies)
