"""Large images and sound are looked at in few steps while a model is converted, and run in T steps afterwards."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import las_sj
from las_sj.models.few_steps import FEW, few_steps, steps_of_call
from las_sj.models.operations import Operation
from las_sj.models.operations.registry import RULES, Rule


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.up(x)))


@pytest.fixture
def steps_seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time steps of each silu that runs."""
    seen: list[int] = []

    def silu(op: Operation, x: Tensor) -> Tensor:
        seen.append(op.time_steps)
        return op.fire("silu", x)

    monkeypatch.setitem(RULES, "silu", Rule(silu, is_composite=False))
    return seen


def batch(rows: int) -> dict[str, Any]:
    return {"x": torch.randn(rows, 6, generator=torch.Generator().manual_seed(0))}


@pytest.mark.parametrize(("rows", "time_steps", "looked_at"), [(10_000, 16, FEW), (10_000, 2, 2), (10, 16, 16)])
def test_steps_of_a_conversion(rows: int, time_steps: int, looked_at: int, steps_seen: list[int]) -> None:
    ann = Network().eval()
    expected = ann(**batch(rows)).detach()
    snn = las_sj.convert(ann, las_sj.LASConfig(time_steps=time_steps), [batch(rows)])
    assert set(steps_seen) - {1} == ({looked_at} if rows > 10 or time_steps == looked_at else set())
    steps_seen.clear()
    with torch.no_grad():
        found = snn(**batch(rows))
    assert steps_seen == [time_steps]
    assert float((found - expected).norm() / expected.norm()) < (1e-3 if time_steps == 16 else 0.5)


def test_the_steps_of_a_call() -> None:
    with few_steps():
        assert [steps_of_call(steps) for steps in (1, 2, FEW, 16)] == [1, 2, FEW, FEW]
        with few_steps(wanted=False):
            assert steps_of_call(16) == 16
        assert steps_of_call(16) == FEW
    assert steps_of_call(16) == 16
