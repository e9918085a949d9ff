"""What must not be converted in silence, and what must work without being asked for."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_models import bert, calibration_batches, gpt2, llama
from torch import Tensor
from transformers import AutoTokenizer, BertModel, PreTrainedModel
from transformers.models.bert import modeling_bert

import las_sj
from las_sj import StructureError, UnsupportedModelError
from las_sj.checkpoint.loading import default_model
from las_sj.data.text import token_windows
from las_sj.models import execution_of


@pytest.mark.parametrize("activation", ["leaky_relu", "relu6"])
def test_unknown_activation_is_named_before_anything_is_swapped(activation: str) -> None:
    model = bert(BertModel, hidden_act=activation)
    config = las_sj.LASConfig(keep_analog=("*pooler*",))  # other modules are to be layers of the family
    with pytest.raises(UnsupportedModelError, match=r"no spiking form of .* \(encoder\.layer\.0"):
        las_sj.convert(model, config, calibration_batches())
    assert not any("Spiking" in type(module).__name__ for module in model.modules())


@torch.no_grad()
def test_layers_that_the_family_does_not_know_are_converted_by_operations() -> None:
    model = bert(BertModel, hidden_act="leaky_relu")
    batch = calibration_batches()[0]
    expected = model(**batch)[0]
    las_sj.convert(model, calibration=calibration_batches())
    assert execution_of(model).operated is not None
    assert float((model(**batch)[0] - expected).norm() / expected.norm()) < 1e-3


def test_unknown_activation_can_stay_analog() -> None:
    model = bert(BertModel, hidden_act="mish")
    reference = copy.deepcopy(model)
    config = las_sj.LASConfig(keep_analog=("*intermediate_act_fn",))
    las_sj.convert(model, config, calibration_batches())
    batch = calibration_batches()[0]
    with torch.no_grad():
        expected = reference(**batch)[0]
        error = model(**batch)[0] - expected
    assert float(error.norm() / expected.norm()) < 1e-3


@pytest.mark.parametrize("function", [F.relu, torch.abs, F.leaky_relu])
def test_functional_non_linearity_is_found(
    function: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Functions that commute with positive factors too: even shares of a window would hide them."""
    original = modeling_bert.BertSelfOutput.forward

    def forward(self: Any, hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
        return original(self, hidden_states, function(input_tensor))

    monkeypatch.setattr(modeling_bert.BertSelfOutput, "forward", forward)
    model = bert(BertModel)
    with pytest.raises(StructureError, match=r"encoder\.layer\.0\.attention\.output"):
        las_sj.convert(model, calibration=calibration_batches())


@pytest.mark.parametrize("make", [gpt2, llama])
def test_generate_needs_no_option_in_the_temporal_execution(make: Callable[[], PreTrainedModel]) -> None:
    ann = make()
    snn = las_sj.convert(copy.deepcopy(ann), calibration=calibration_batches())
    prompt = calibration_batches()[0]["input_ids"][:1, :4]
    settings: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    mask = torch.ones_like(prompt)
    expected = ann.generate(prompt, attention_mask=mask, **settings)
    assert torch.equal(snn.generate(prompt, attention_mask=mask, **settings), expected)
    las_sj.set_execution(snn, "accumulated")
    assert snn.generation_config.use_cache == ann.generation_config.use_cache
    assert torch.equal(snn.generate(prompt, attention_mask=mask, **settings), expected)


def test_text_shorter_than_a_window() -> None:
    tokenizer = AutoTokenizer.from_pretrained(default_model())
    batches = token_windows(tokenizer, "But soft, what light through yonder window breaks?", 100, 64, 4)
    assert len(batches) == 1
    rows, length = batches[0]["input_ids"].shape
    assert rows == 1
    assert 2 <= length < 64
