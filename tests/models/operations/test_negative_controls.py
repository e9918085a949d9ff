"""Networks that are wrong on purpose are refused, by name: the judges see what a careless rule would do."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import las_sj
from las_sj.analysis import audit
from las_sj.models.operations import Operation
from las_sj.models.operations.registry import RULES, Rule
from las_sj.neurons import FUNCTIONS


class Block(nn.Module):
    """Two linear layers with an activation between them, and their product with the input."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 12), nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.down(F.silu(self.up(x)))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(3, 6))
        self.block = Block()
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.head(self.block(x + self.position)))


def network() -> Network:
    torch.manual_seed(0)
    model = Network()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


def batches() -> list[dict[str, Any]]:
    return [{"x": torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(seed))} for seed in range(2)]


@pytest.fixture(params=["in all steps", "in few steps"], autouse=True)
def looked_at(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judges see the same where the input counts as large, and is looked at in few steps."""
    if request.param == "in few steps":
        monkeypatch.setattr("las_sj.data.batches.LARGE", 0)


def test_the_network_itself_is_converted() -> None:
    snn = las_sj.convert(network(), calibration=batches())
    assert snn.las_coverage.spiking == {"linear": 3, "silu": 1, "mul": 1, "tanh": 1}
    assert audit(snn, batches()[0]).fully_spike_driven


def test_functions_without_neurons(monkeypatch: pytest.MonkeyPatch) -> None:
    def fire(op: Operation, function: str, x: Tensor, role: str = "") -> Tensor:
        return op.current(FUNCTIONS[function].exact(x), op.axis(x))

    monkeypatch.setattr(Operation, "fire", fire)
    with pytest.raises(las_sj.StructureError, match=r"block\.down \(.*Linear\)"):
        las_sj.convert(network(), calibration=batches())


def test_plain_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Operation, "product", lambda op, a, b: op.current(a * b, op.axis(a)))
    with pytest.raises(las_sj.StructureError, match=r"block \(.*Block\)"):
        las_sj.convert(network(), calibration=batches())


def test_constants_that_are_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Operation, "share", lambda op, constant: constant)
    with pytest.raises(las_sj.StructureError, match="differs from the accumulated run"):
        las_sj.convert(network(), calibration=batches())


def test_a_function_of_the_readouts_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a network computes what the ANN does, so that only the audit sees that no neuron computes it."""

    def tanh(op: Operation, x: Tensor) -> Tensor:
        axis = op.axis(x)
        return op.current(op.repeat(torch.tanh(op.total(x)) / op.time_steps, axis), axis)

    monkeypatch.setitem(RULES, "tanh", Rule(tanh, is_composite=False))
    snn = las_sj.convert(network(), calibration=batches())
    found = audit(snn, batches()[0])
    assert not found.fully_spike_driven
    assert "tanh" in {row.operator for row in found.analog}


def test_a_function_without_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(RULES, "silu")
    model = network()
    with pytest.raises(las_sj.UnsupportedModelError, match=r"no spiking form of silu \(block, silu\)"):
        las_sj.convert(model, calibration=batches())
    assert type(model.block) is Block
