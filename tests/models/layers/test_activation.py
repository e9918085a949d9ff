"""Which HG function an activation module becomes."""

import pytest
import torch
from torch import nn
from transformers import activations

from las_sj.models.layers.activation import hg_function
from las_sj.neurons import FUNCTIONS


@pytest.mark.parametrize(
    ("module", "function"),
    [
        (nn.Sigmoid(), "sigmoid"),
        (nn.Softplus(), "softplus"),
        (nn.Mish(), "mish"),
        (activations.ACT2FN["mish"], "mish"),
        (activations.ACT2FN["sigmoid"], "sigmoid"),
        (nn.GELU("tanh"), "gelu_tanh"),
        (nn.Tanh(), "tanh"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else value,
)
def test_modules_become_the_function_that_they_compute(module: nn.Module, function: str) -> None:
    assert hg_function(module) == function
    x = torch.linspace(-20, 20, 999, dtype=torch.float64)
    assert (module(x) - FUNCTIONS[function].exact(x)).abs().max() < 1e-8


@pytest.mark.parametrize("module", [nn.Softplus(beta=2.0), nn.Softplus(threshold=1.0), nn.Identity()], ids=str)
def test_other_settings_are_another_function(module: nn.Module) -> None:
    assert hg_function(module) is None
