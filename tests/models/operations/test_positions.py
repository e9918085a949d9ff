"""Embeddings of positions are constants, even where there are as many positions as rows in a temporal batch."""

import copy

import pytest
import torch
from torch import Tensor, nn

import las_sj
from las_sj.models import running

T, ROWS = 4, 2


class Relative(nn.Module):
    """Scores with a bias for each distance, as T5 has it."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Embedding(32, 1)
        self.values = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1])
        distance = (places[None] - places[:, None]).clamp(-8, 8)
        distance = torch.where(distance < 0, distance + 32, distance)
        scores = x @ x.transpose(1, 2) + self.bias(distance).squeeze(-1)
        return scores.softmax(-1) @ self.values(x)


@pytest.mark.parametrize("length", [T * ROWS, T * ROWS - 1])
def test_as_many_positions_as_rows(length: int) -> None:
    torch.manual_seed(0)
    ann, x = Relative(), torch.randn(ROWS, length, 6)
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(time_steps=T), [{"x": torch.randn(ROWS, 5, 6)}])
    with torch.no_grad(), running(snn, "accumulated"):
        expected = snn(x=x)
    with torch.no_grad(), running(snn, "temporal"):
        assert (snn(x=x) - expected).norm() < 1e-2 * expected.norm()
        assert (expected - ann(x)).norm() < 0.5 * expected.norm()
