"""A module is taken for a norm only if it computes one on noise, and keeps what is far from calibrated ranges."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mamba2.modeling_mamba2 import MambaRMSNormGated
from transformers.models.t5.modeling_t5 import T5LayerNorm

import las_sj
from las_sj.models.operations.known_norms import NormForm, norm_form_of

WIDTH = 16


class HandWritten(nn.Module):
    """LayerNorm in single operations, with names of its own."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.scale, self.bias, self.small = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width)), 1e-3

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.small) * self.scale + self.bias


class OtherEpsilon(LlamaRMSNorm):
    """ε is added to the root."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        size = hidden_states.pow(2).mean(-1, keepdim=True).sqrt() + self.variance_epsilon
        return self.weight * hidden_states / size


class Doubled(LlamaRMSNorm):
    def forward(self, hidden_states: Tensor) -> Tensor:
        return 2 * super().forward(hidden_states)


class OverTheBatch(LlamaRMSNorm):
    def forward(self, hidden_states: Tensor) -> Tensor:
        return super().forward(hidden_states - hidden_states.mean(0))


def with_noise(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        parameter.data.add_(torch.randn(parameter.shape) / 4)
    return module


@pytest.mark.parametrize(
    ("module", "form"),
    [
        (LlamaRMSNorm(WIDTH, 1e-5), NormForm("weight", False, False, 1e-5)),
        (T5LayerNorm(WIDTH, 1e-6), NormForm("weight", False, False, 1e-6)),
        (Gemma2RMSNorm(WIDTH, 1e-6), NormForm("weight", True, False, 1e-6)),
        (HandWritten(), NormForm("scale", False, True, 1e-3)),
        (LlamaRMSNorm(WIDTH, 1e-5).bfloat16(), NormForm("weight", False, False, 1e-5)),
        (MambaRMSNormGated(WIDTH, WIDTH, 1e-6), NormForm("weight", False, False, 1e-6)),
    ],
)
def test_norms_are_known_by_what_they_compute(module: nn.Module, form: NormForm) -> None:
    assert norm_form_of(with_noise(module)) == form


@pytest.mark.parametrize(
    "module",
    [
        OtherEpsilon(WIDTH),
        Doubled(WIDTH),
        OverTheBatch(WIDTH),
        MambaRMSNormGated(WIDTH, WIDTH // 2),
        nn.PReLU(WIDTH),
        nn.Linear(WIDTH, 1),
        nn.ReLU(),
    ],
)
def test_what_only_looks_like_one_is_not(module: nn.Module) -> None:
    assert norm_form_of(with_noise(module)) is None


def test_gains_of_nothing_tell_nothing() -> None:
    module = LlamaRMSNorm(WIDTH)
    module.weight.data.zero_()
    assert norm_form_of(module) is None


class Network(nn.Module):
    """A norm between two layers, and one that is gated where it is given a second argument."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.gated = LlamaRMSNorm(WIDTH), MambaRMSNormGated(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        output: Tensor = self.head(self.gated(self.norm(x), gate))
        return output


def batch(seed: int, size: float = 1.0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    x, gate = (torch.randn(2, 6, WIDTH, generator=generator) for _ in range(2))
    return {"x": size * x, "gate": gate}


@torch.no_grad()
def test_rows_of_any_size_are_normalised() -> None:
    ann = with_noise(Network()).eval()
    given = [batch(1), batch(1, 1e4), batch(1, 1e-2)]
    expected = [ann(**named) for named in given]
    snn = las_sj.convert(ann, calibration=[batch(2)])
    assert snn.las_coverage.spiking["rms_norm"] == 1
    assert set(dict(snn.norm.spiking.named_children())) == {
        f"rms_norm_1_{role}" for role in ("centred", "square", "rsqrt", "scale", "output")
    }
    for execution in ("accumulated", "temporal"):
        las_sj.set_execution(snn, execution)
        for named, reference in zip(given, expected, strict=True):
            assert float((snn(**named) - reference).norm() / reference.norm()) < 1e-3, execution
