"""A real Whisper (tiny.en): what the project promises of it, on a sound that needs no data."""

import copy
from typing import Any

import pytest
import torch
from real_models import whisper
from torch import Tensor
from transformers import PreTrainedModel

import las_sj
from las_sj.conversion.continuation import continue_batch
from las_sj.models import running

ERROR = 3e-4  # of the logits, relative
RATE = 16_000  # samples a second


def humming() -> Tensor:
    """Two seconds of a voice-like sound: harmonics of a gliding pitch, with pauses, [samples]."""
    time = torch.arange(2 * RATE) / RATE
    pitch = 2 * torch.pi * (120 * time + 20 * time.square())
    sound = sum((torch.sin(k * pitch) / k for k in range(1, 12)), start=torch.zeros_like(time))
    return 0.1 * sound * (torch.sin(2 * torch.pi * 3 * time) > -0.5)


@pytest.fixture(scope="module")
def both() -> tuple[PreTrainedModel, PreTrainedModel, dict[str, Any]]:
    """The ANN, the network, and a batch."""
    try:
        ann, extractor = whisper()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    features = extractor(humming().numpy(), sampling_rate=RATE, return_tensors="pt").input_features
    batch = {"input_features": features, "decoder_input_ids": torch.tensor([[50257, 50362, 383, 2068, 7586]])}
    return ann, las_sj.convert(copy.deepcopy(ann), None, [batch]), batch


@torch.no_grad()
@pytest.mark.parametrize("execution", ["accumulated", "temporal"])
def test_it_is_the_ann(both: tuple[PreTrainedModel, PreTrainedModel, dict[str, Any]], execution: str) -> None:
    """Logits, and the tokens that it goes on with by its cache of self- and cross-attention."""
    ann, snn, batch = both
    expected = ann(**batch)
    with running(snn, execution):
        found = snn(**batch)
        error = float((found.logits - expected.logits).norm() / expected.logits.norm())
        print(f"{execution}: relative error {error:.1e}")
        assert error < ERROR
        assert torch.equal(continue_batch(snn, batch, 3, found).tokens, continue_batch(ann, batch, 3, expected).tokens)
