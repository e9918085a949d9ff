"""Division, powers, roots and logarithms, coded: operands of both signs work, what is infinite is refused."""

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


def _mixed(x: Tensor) -> Tensor:
    """Numbers of both signs with magnitudes of at least 0.2."""
    return x + 0.2 * torch.sign(x)


OF_BOTH_SIGNS: dict[str, Function] = {
    "reciprocal": lambda x: torch.reciprocal(_mixed(x)),
    "division": lambda x: x[..., :4] / _mixed(x[..., 4:]) + 3 / _mixed(x[..., :4]),
    "tan": lambda x: torch.tan(2 * x.clamp(-0.7, 0.7)),
    "whole_powers": lambda x: x**5 - x**6 + _mixed(x) ** -3,
    "constant_bases": lambda x: 2.0**x + torch.pow(3.0, x),
    "float_power": lambda x: torch.float_power(x, 2).float(),
    "powers_of_magnitudes": lambda x: x.abs() ** 1.5 + (x.abs() + 0.1) ** 0.3 + (x.abs() + 0.1) ** x,
    "an_exponent_for_each_channel": lambda x: (x.abs() + 0.1) ** torch.tensor([1.0, 2.0, 0.5, 3.0] * 2),
    "logarithm_of_zero": lambda x: torch.log(torch.relu(x)).exp(),
    "masked_logarithm": lambda x: torch.where(x > 0.1, torch.log(x), 0.0),
    "hyperbolic": lambda x: torch.sinh(x) - torch.cosh(x),
    "root_of_small_ones": lambda x: torch.sqrt(torch.relu(x) ** 4)[..., :4] + x[..., 4:] * 1e-3,
    "root_of_zero": lambda x: torch.sqrt(torch.relu(x)),
}


@pytest.mark.parametrize("name", OF_BOTH_SIGNS)
def test_operands_of_both_signs(name: str) -> None:
    assert max(errors(OF_BOTH_SIGNS[name], draw())) < 1e-4


@torch.no_grad()
def test_roots_of_small_numbers() -> None:
    """Sums of squares range over the square of what their parts do, so that no code of fixed steps holds them."""
    x = torch.tensor([[1e-6, 1e-4, 1e-2, 1.0, 1e2]])
    model = converted(lambda x: torch.sqrt(x) * 1.0, x)
    for execution in ("accumulated", "temporal"):
        with running(model, execution):
            assert float((model(x=x) / x.sqrt() - 1).abs().max()) < 1e-4, execution


def test_signs_are_decisions_and_are_told() -> None:
    assert converted(torch.reciprocal, _mixed(draw())).las_coverage.decisions == {"the model": ("reciprocal",)}
    assert converted(torch.reciprocal, _mixed(draw()).abs()).las_coverage.decisions == {}


def test_signs_that_come_later_are_refused() -> None:
    batches = [{"x": _mixed(draw()).abs()}, {"x": _mixed(draw())}]
    message = r"neurons for reciprocal take positive numbers only, and were given -\d\.\d+ at spiking.div_1_reciprocal"
    with pytest.raises(las_sj.CalibrationError, match=message):
        las_sj.convert(Calls(lambda x: x / x), calibration=batches)


def test_division_by_zero_is_named() -> None:
    """The ANN hides what is infinite; neurons would have to hold it."""
    x = torch.relu(draw())
    message = "at spiking.mul_1_left: spiking.reciprocal_1 was given 0, for which reciprocal is not finite"
    with pytest.raises(las_sj.CalibrationError, match=message):
        converted(lambda x: torch.where(x > 0, 1.0 / x * (x + 1.0) / x, 0.0), x)
