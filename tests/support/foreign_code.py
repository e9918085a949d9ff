"""What tests of adapters, hooks and other modules around the layers of a converted model share."""

from typing import Any

import pytest
import torch
from tiny_models import EXECUTIONS, Model, relative_error, token_ids
from torch import Tensor

import las_sj

LOSSLESS = 5e-4  # of codes, fp64, T = 16; what is put in changes outputs by 0.05 and more
EQUAL = 1e-9
HEADROOM = 4.0  # activations are larger with adapters than in calibration
VECTOR = torch.randn(32, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 0.3


def adapters(model: Model, targets: list[str], **options: Any) -> Model:
    """PEFT's model around `model`, with low-rank adapters that are not zero."""
    peft = pytest.importorskip("peft")
    around = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=8, target_modules=targets, **options))
    generator = torch.Generator().manual_seed(7)
    for name, parameter in around.named_parameters():
        if "lora_" in name or ("modules_to_save" in name and name.endswith(".weight")):  # and no threshold
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.2
    return around.eval()


@torch.no_grad()
def first_output(model: Model) -> Tensor:
    """Of as many sequences as time steps, and of one, which is broadcast where it should not be."""
    return torch.cat([model(input_ids=token_ids(batch))[0] for batch in (16, 1)])


def assert_as_the_ann(around: Model, converted: Model, expected: Tensor) -> None:
    """In both executions `around` gives what the ANN does, and exactly the same."""
    outputs = []
    for execution in EXECUTIONS:
        las_sj.set_execution(converted, execution)
        outputs.append(first_output(around))
        assert relative_error(outputs[-1], expected) < LOSSLESS, execution
    assert relative_error(*outputs) < EQUAL
