"""Models in bf16 and fp16, converted by operations: no further from single precision than the ANN is."""

import generating_models
import pytest
import torch
from generating_models import ann, batch_of
from torch import Tensor

import las_sj

DTYPES = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["qwen3_moe", "t5", "mamba"])
@torch.no_grad()
def test_errors_are_those_of_the_precision(name: str, dtype: torch.dtype) -> None:
    exact = ann(name, torch.float32)
    batch = batch_of(exact)
    reference = exact(**batch).logits

    def error_of(logits: Tensor) -> float:
        return float((logits.float() - reference).norm() / reference.norm())

    own = ann(name, dtype)(**batch).logits
    snn = generating_models.spiking(name, dtype)
    assert all(parameter.dtype == dtype for key, parameter in snn.named_parameters() if "spiking" not in key)
    for execution in ("temporal", "accumulated"):
        las_sj.set_execution(snn, execution)
        logits = snn(**batch).logits
        assert logits.dtype == own.dtype
        assert error_of(logits) < 1.5 * error_of(own)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["t5", "mamba"])
def test_gradients_flow_in_half_precision(name: str, dtype: torch.dtype) -> None:
    """Outputs have the type of those without gradients, and about their values."""
    snn = generating_models.spiking(name, dtype)
    batch, weight = batch_of(snn), next(p for key, p in snn.named_parameters() if "spiking" not in key)
    for execution in ("temporal", "accumulated"):
        las_sj.set_execution(snn, execution)
        with torch.no_grad():
            expected = snn(**batch).logits
        logits = snn(**batch).logits
        assert logits.dtype == expected.dtype
        assert float((logits.detach() - expected).float().norm() / expected.float().norm()) < 0.1
        (gradient,) = torch.autograd.grad(logits.float().square().mean(), weight)
        assert gradient.isfinite().all()
        assert gradient.any()
