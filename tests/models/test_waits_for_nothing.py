"""No layer reads a tensor's values on the host, which would make a GPU's call wait and could not be captured.

The meta device holds no values: whoever reads one raises an error. Neurons are bypassed, as theirs are the kernels'.
"""

import copy

import pytest
import torch
from tiny_families import TINY_MODELS
from tiny_models import EXECUTIONS

import las_sj
from las_sj.models import named_sites

LANGUAGE_MODELS = ["LlamaForCausalLM", "GPT2LMHeadModel", "BertModel", "MistralForCausalLM", "Gemma2ForCausalLM"]


@pytest.fixture(autouse=True)
def captures(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers reads masks on the host too, but where a graph is being captured."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)


@pytest.mark.parametrize("name", [name for name in LANGUAGE_MODELS if name in TINY_MODELS])
@pytest.mark.parametrize("padded", [False, True])
def test_calls_read_no_values(name: str, padded: bool) -> None:
    tiny = TINY_MODELS[name]
    snn = las_sj.convert(tiny.build(), None, [tiny.batch(2, 1)])
    for _, site in named_sites(snn):
        site.node.bypass = True
    batch = {key: value.to("meta") for key, value in tiny.batch(2, 3).items()}
    if padded:
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    for execution in EXECUTIONS:
        las_sj.set_execution(snn, execution)
        on_meta = copy.deepcopy(snn).to("meta")
        with torch.no_grad():
            assert on_meta(**batch)[0].is_meta
