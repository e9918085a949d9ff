"""Functions of values of both signs, or small ones: coded as accurately as others."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import las_sj
from las_sj.models import running

Function = Callable[[Tensor], Tensor]


class Calls(nn.Module):
    """A module that is one function."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def draw(seed: int = 0) -> Tensor:
    """Of both signs, [2, 3, 8]."""
    return torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(seed))


def converted(function: Function, x: Tensor) -> Any:
    return las_sj.convert(Calls(function), calibration=[{"x": x}])


@torch.no_grad()
def errors(function: Function, x: Tensor) -> list[float]:
    """The largest difference in each execution, of the largest output."""
    model, expected = converted(function, x), function(x)
    found = []
    for execution in ("accumulated", "temporal"):
        with running(model, execution):
            found.append(float((model(x=x) - expected).abs().max() / expected.abs().max()))
    return found


OF_BOTH_SIGNS: dict[str, Function] = {
    "hyperbolic": lambda x: torch.sinh(x) - torch.cosh(x),
    "sqrt_of_small_ones": lambda x: torch.sqrt(torch.relu(x) ** 4)[..., :4] + x[..., 4:] * 1e-3,
}


@pytest.mark.parametrize("name", OF_BOTH_SIGNS)
def test_values_of_both_signs(name: str) -> None:
    assert max(errors(OF_BOTH_SIGNS[name], draw())) < 1e-4
