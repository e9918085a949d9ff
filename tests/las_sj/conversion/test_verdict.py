"""The audit's verdict in the coverage of models that were converted by operations."""

from pathlib import Path

import pytest
import torch
from tiny_models import MODELS, convert_tiny
from tiny_operations import converted
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

import las_sj
from las_sj.data.batches import LARGE
from las_sj.models.operations import registry


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).cosh() if x.numel() <= LARGE else self.inner(x)


def test_nothing_is_analog() -> None:
    assert converted("olmo2").snn.las_coverage.analog_operations == {}


def test_it_is_saved(tmp_path: Path) -> None:
    snn = converted("olmo2").snn
    snn.save_pretrained(tmp_path)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).las_coverage == snn.las_coverage


@pytest.mark.usefixtures("an_analog_rule")
def test_an_analog_rule_is_named() -> None:
    """A user's rule may do what it likes: the structure check sees that a sum over T passes through its function."""
    snn = las_sj.convert(Network(), las_sj.LASConfig(time_steps=4), [{"x": torch.randn(2, 6)}])
    assert snn.las_coverage.analog_operations is not None
    assert list(snn.las_coverage.analog_operations) == ["Network"]
    assert snn.las_coverage.analog_operations["Network"][0].startswith("cosh (test_verdict.py:")


@pytest.fixture
def an_analog_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "RULES", registry.RULES)
    monkeypatch.setitem(registry.RULES, "cosh", registry.Rule(_cosh, is_composite=False))


def _cosh(op: las_sj.models.operations.Operation, x: Tensor) -> Tensor:
    axis = op.axis(x)
    return op.current(op.repeat(op.total(x).cosh(), axis) / op.time_steps, axis)


def test_large_calls_are_left_open() -> None:
    rows = torch.randn(LARGE // 6 + 1, 6)
    snn = las_sj.convert(Network(), las_sj.LASConfig(time_steps=4), [{"x": rows}])
    assert snn.las_coverage.analog_operations is None


def test_models_of_known_families_are_not_audited() -> None:
    """Their layers are audited in tests, so that nobody waits for it."""
    assert convert_tiny(MODELS["llama"](), time_steps=4).las_coverage.analog_operations is None
