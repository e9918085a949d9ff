"""Functions of one value, coded: as accurate as neurons are, on both sides of 0, with ranges from calibration."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import las_sj
from las_sj.models import execution_of, running
from las_sj.models.operations.populations import Populations

Function = Callable[[Tensor], Tensor]

OF_ANY_VALUE: dict[str, Function] = {
    function.__name__: function
    for function in (
        *(torch.exp, torch.sigmoid, torch.tanh, torch.erf, torch.sin, torch.cos, torch.square, torch.abs),
        *(torch.expm1, torch.exp2, torch.sinh, torch.cosh, torch.asinh),
        *(F.relu, F.silu, F.gelu, F.mish, F.softplus, F.logsigmoid, F.elu, F.celu, F.selu, F.leaky_relu, F.relu6),
        *(F.hardtanh, F.hardsigmoid, F.hardswish, F.softsign, F.tanhshrink, F.softshrink),
    )
}
OF_POSITIVE_VALUES: dict[str, Function] = {
    function.__name__: function
    for function in (torch.log, torch.log1p, torch.log2, torch.log10, torch.sqrt, torch.rsqrt, torch.reciprocal)
}


class Between(nn.Module):
    """A function between two linear layers."""

    def __init__(self, function: Function, positive: bool) -> None:
        super().__init__()
        self.function = function
        self.first, self.last = nn.Linear(8, 32), nn.Linear(32, 8)
        self.shift = 4.0 if positive else 0.0

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(2 * self.first(x) + self.shift))


@pytest.mark.parametrize("name", [*OF_ANY_VALUE, *OF_POSITIVE_VALUES])
@torch.no_grad()
def test_errors_are_those_of_the_code(name: str) -> None:
    torch.manual_seed(0)
    positive = name in OF_POSITIVE_VALUES
    ann = Between((OF_POSITIVE_VALUES | OF_ANY_VALUE)[name], positive).eval()
    x = torch.rand(16, 8) * 2 - 1
    expected = ann(x)
    snn = las_sj.convert(ann, None, [{"x": x}])
    for execution in ("accumulated", "temporal"):
        with running(snn, execution):
            assert float((snn(x) - expected).norm() / expected.norm()) < 3e-4


@pytest.mark.filterwarnings("ignore::las_sj.models.out_of_range.OutOfRangeWarning")
@torch.no_grad()
def test_the_larger_of_two_in_half_precision() -> None:
    """Small values beside a large bound are not rounded to 0, whose inverse would be infinite."""
    torch.manual_seed(0)
    ann = Between(lambda x: 1 / torch.maximum(x.abs(), x - 8.0), positive=False).eval().to(torch.bfloat16)
    x = (torch.rand(64, 8) * 2 - 1).bfloat16()
    assert bool(torch.isfinite(ann(x)).all())
    las_sj.convert(ann, None, [{"x": x}])


class Small(nn.Module):
    """An activation, whose values a norm makes large again."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.norm = nn.GELU(), nn.LayerNorm(32)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.norm(self.act(x))
        return output


@torch.no_grad()
def test_small_values_are_held_as_well_as_large_ones() -> None:
    """What an absolute tolerance allows would be a part of them that layers after it make large again."""
    torch.manual_seed(0)
    ann, x = Small(), torch.randn(16, 32) / 200
    expected = ann(x)
    snn = las_sj.convert(copy.deepcopy(ann), None, [{"x": x}])
    for execution in ("accumulated", "temporal"):
        with running(snn, execution):
            assert float((snn(x) - expected).norm() / expected.norm()) < 1e-4


def test_tolerance_of_small_values_is_in_checkpoints() -> None:
    snn = las_sj.convert(Small(), None, [{"x": torch.randn(4, 32) / 20}])
    populations = snn.act.spiking
    values = populations.to_dict()
    assert values["kinds"]["gelu_1"]["tolerance"] == populations.gelu_1.tolerance == 1e-5 / 8
    again = Populations.from_dict(values, execution_of(snn), las_sj.LASConfig().factory())
    assert torch.equal(again.gelu_1.bias, populations.gelu_1.bias)
