"""A converted nn.Sequential calls the layers that it had, and nothing besides."""

import copy

import torch
from torch import nn

import las_sj
from las_sj.models import running


@torch.no_grad()
def test_it_runs_in_both_executions() -> None:
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 3)))
    x = torch.randn(4, 6)
    expected = ann(x)
    snn = las_sj.convert(ann, calibration=[{"input": x}])
    for model in (snn, copy.deepcopy(snn)):
        for execution in ("accumulated", "temporal"):
            with running(model, execution):
                torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-3)
    assert len(snn) == 3
    assert [type(layer).__name__.removeprefix("Spiking") for layer in snn][1] == "GELU"
    assert isinstance(snn[2][1], nn.Linear)
