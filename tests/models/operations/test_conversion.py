"""Models without a family are converted by operations, and equal the ANN in both executions."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    T5Config,
    T5ForConditionalGeneration,
)

import las_sj
from las_sj.models import execution_of

SMALL = {"vocab_size": 60, "hidden_size": 32, "num_attention_heads": 4, "use_cache": False}


def olmo2() -> PreTrainedModel:
    return Olmo2ForCausalLM(Olmo2Config(**SMALL, num_hidden_layers=1, intermediate_size=48, pad_token_id=0))


def falcon() -> PreTrainedModel:
    return FalconForCausalLM(FalconConfig(**SMALL, num_hidden_layers=1))


def bloom() -> PreTrainedModel:
    return BloomForCausalLM(BloomConfig(vocab_size=60, hidden_size=32, n_head=4, n_layer=1, use_cache=False))


def t5() -> PreTrainedModel:
    return T5ForConditionalGeneration(
        T5Config(vocab_size=60, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4, use_cache=False)
    )


def resnet() -> PreTrainedModel:
    return ResNetForImageClassification(
        ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic", num_labels=3)
    )


class Network(nn.Module):
    """What a user may have written: a convolution, pooling, a parameter that is added, attention and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.position = nn.Parameter(torch.randn(9, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.norm(self.convolution(images))), 2)
        x = x.flatten(2).transpose(1, 2) + self.position
        x = x + self.attention(x, x, x, need_weights=False)[0]
        output: Tensor = torch.tanh(self.head(x).mean(1))
        return output


def tokens(seed: int, length: int = 10) -> Tensor:
    return torch.randint(3, 60, (2, length), generator=torch.Generator().manual_seed(seed))


def images(seed: int) -> Tensor:
    return torch.randn(2, 3, 14, 14, generator=torch.Generator().manual_seed(seed))


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[int], dict[str, Any]]]] = {
    "olmo2": (olmo2, lambda seed: {"input_ids": tokens(seed)}),
    "falcon": (falcon, lambda seed: {"input_ids": tokens(seed)}),
    "bloom": (bloom, lambda seed: {"input_ids": tokens(seed)}),
    "t5": (t5, lambda seed: {"input_ids": tokens(seed), "decoder_input_ids": tokens(seed + 9, 6)}),
    "resnet": (resnet, lambda seed: {"pixel_values": images(seed)}),
    "a plain module": (Network, lambda seed: {"images": images(seed)}),
}


def widened(model: nn.Module) -> nn.Module:
    """Weights so wide that no function is near a line."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = 0.1 if parameter.dim() < 2 else 1.2 * parameter[0].numel() ** -0.5
            parameter.copy_(parameter * (parameter.dim() < 2) + scale * noise)
    return model.eval()


def first(output: Any) -> Tensor:
    tensor: Tensor = output if isinstance(output, Tensor) else output[0]
    return tensor


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_equals_the_ann(name: str) -> None:
    torch.manual_seed(0)
    make, inputs = CASES[name]
    model = widened(make())
    batches = [inputs(seed) for seed in range(2)]
    expected = [first(model(**batch)) for batch in batches]
    las_sj.convert(model, calibration=batches)
    assert execution_of(model).operated is not None
    for execution in ("accumulated", "temporal"):
        las_sj.set_execution(model, execution)
        for batch, reference in zip(batches, expected, strict=True):
            assert float((first(model(**batch)) - reference).norm() / reference.norm()) < 1e-3, execution


def test_decisions_are_told() -> None:
    model = las_sj.convert(widened(Network()), calibration=[{"images": images(0)}])
    assert model.las_coverage.decisions == {"the model": ("max_pool2d",)}


class Unknown(nn.Module):
    """It has a function without a rule."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.acos(x)


def test_a_function_without_a_rule_is_refused_by_name() -> None:
    model = nn.Sequential(Unknown(), nn.Linear(4, 4))
    with pytest.raises(las_sj.UnsupportedModelError, match=r"no spiking form of acos \(0, Unknown.forward\)"):
        las_sj.convert(model, calibration=[{"input": torch.rand(2, 4)}])
    assert type(model) is nn.Sequential
    assert not hasattr(model[1], "spiking")


@torch.no_grad()
def test_parts_stay_analog() -> None:
    model = widened(Network())
    expected = model(images=images(0))
    config = las_sj.LASConfig(keep_analog=("attention",))
    las_sj.convert(model, config, [{"images": images(0)}])
    assert model.las_coverage.analog == {"attention": "kept analog by request"}
    assert not hasattr(model.attention, "spiking")
    for execution in ("accumulated", "temporal"):
        las_sj.set_execution(model, execution)
        assert float((model(images=images(0)) - expected).norm() / expected.norm()) < 1e-3, execution


def test_a_pattern_that_names_nothing_is_refused() -> None:
    with pytest.raises(las_sj.UnsupportedModelError, match="keep_analog: 'other' names no module"):
        las_sj.convert(Network(), las_sj.LASConfig(keep_analog=("other",)), [{"images": images(0)}])
