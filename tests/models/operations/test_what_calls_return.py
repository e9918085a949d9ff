"""Parts of a batch, decisions and constants that a model returns have the rows of the batch, not T times as many."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import las_sj
from las_sj.models import running
from las_sj.models.registry import UnsupportedModelError

EXECUTIONS = ("accumulated", "temporal")


class Model(nn.Module):
    """Two linear layers, and what a test makes of the first one's output."""

    def __init__(self, makes: Any) -> None:
        super().__init__()
        self.first, self.second, self.makes = nn.Linear(8, 8), nn.Linear(8, 8), makes

    def forward(self, x: Tensor) -> Any:
        return self.makes(self, self.first(x))


def both(makes: Any, time_steps: int = 8) -> tuple[Model, Model]:
    torch.manual_seed(0)
    ann = Model(makes).eval()
    snn = copy.deepcopy(ann)
    batches = [{"x": torch.randn(4, 5, 8)} for _ in range(4)]
    las_sj.convert(snn, las_sj.LASConfig(time_steps=time_steps), batches)
    return ann, snn


@torch.no_grad()
@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize(
    "makes",
    [
        lambda model, h: h[0],
        lambda model, h: h[:1],
        lambda model, h: model.second(h)[:1].tanh(),
        lambda model, h: list(h),
        lambda model, h: {"rows": [h[1], h]},
    ],
)
def test_parts_are_sums_over_all_steps(makes: Any, execution: str) -> None:
    (ann, snn), x = both(makes), torch.randn(4, 5, 8)
    with running(snn, execution):
        found = snn(x=x)
    torch.testing.assert_close(found, ann(x=x), rtol=2e-2, atol=2e-2)


@torch.no_grad()
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_decisions_and_constants_have_the_rows_of_the_batch(execution: str) -> None:
    def makes(model: Model, h: Tensor) -> Any:
        return h, h.argmax(-1), h > 0, h.topk(2).indices, torch.ones(len(h), 3)

    (ann, snn), x = both(makes), torch.randn(4, 5, 8)
    with running(snn, execution):
        found = snn(x=x)
    expected = ann(x=x)
    torch.testing.assert_close(found[0], expected[0], rtol=2e-2, atol=2e-2)
    assert [part.shape for part in found] == [part.shape for part in expected]
    for decision, other in zip(found[1:], expected[1:], strict=True):
        assert (decision == other).float().mean() > 0.95  # near ties


@pytest.mark.parametrize(
    ("makes", "function"),
    [
        (lambda model, h: model.second(h + h[0]), "add"),
        (lambda model, h: model.second(h * h[:1]), "mul"),
        (lambda model, h: h.index_put((torch.tensor([0]),), h[:1], accumulate=True), "index_put"),
    ],
)
def test_a_batch_and_a_part_of_it_do_not_meet(makes: Any, function: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"no spiking form of {function} of a whole batch and a part of it"):
        both(makes)
