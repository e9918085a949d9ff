"""Random-weight models small enough for a test each, and what the tests of them share."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

import las_sj
from las_sj.analysis import SpikeMonitor
from las_sj.checkpoint.loading import default_model

VOCABULARY = 100
EXECUTIONS = ("temporal", "accumulated")
Model = Any  # a PreTrainedModel, of whose attributes type checkers know nothing

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,  # attention that is far from uniform
}
_GPT2_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "initializer_range": 0.2,  # attention that is far from uniform
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def _random(model: PreTrainedModel) -> Model:
    """Biases are zero and gains one in a new model, which hides what is done with them."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.eval()


def bert(kind: type[PreTrainedModel] = BertModel, **options: Any) -> Model:
    torch.manual_seed(0)
    return _random(kind(BertConfig(**{**_SIZES, **options})))


def gpt2(kind: type[PreTrainedModel] = GPT2LMHeadModel, **options: Any) -> Model:
    torch.manual_seed(0)
    return _random(kind(GPT2Config(**{**_GPT2_SIZES, **options})))


def llama(kind: type[PreTrainedModel] = LlamaForCausalLM, **options: Any) -> Model:
    """With grouped-query attention: two heads of queries for each of keys."""
    torch.manual_seed(0)
    return _random(kind(LlamaConfig(**{**_SIZES, "num_key_value_heads": 2, **options})))


MODELS: dict[str, Callable[[], Model]] = {
    "bert": bert,
    "bert-masked-lm": lambda: bert(BertForMaskedLM),
    "bert-classifier": lambda: bert(BertForSequenceClassification, num_labels=3),
    "gpt2": gpt2,
    "gpt2-relu": lambda: gpt2(activation_function="relu"),
    "gpt2-silu": lambda: gpt2(activation_function="silu"),
    "gpt2-gelu": lambda: gpt2(activation_function="gelu"),
    "gpt2-tanh": lambda: gpt2(activation_function="tanh"),
    "llama": llama,
}
CAUSAL = [name for name in MODELS if "bert" not in name]


def token_ids(batch: int = 3, length: int = 10, seed: int = 1) -> Tensor:
    """Random tokens [B, S], none of them 0, the padding."""
    return torch.randint(1, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


def padding_mask(side: str, length: int = 10) -> Tensor:
    """attention_mask [3, S]: no padding, three tokens of it, and six."""
    mask = torch.ones(3, length, dtype=torch.long)
    for row, padding in ((1, 3), (2, 6)):
        mask[row, slice(0, padding) if side == "left" else slice(length - padding, None)] = 0
    return mask


def save(model: PreTrainedModel, folder: Path) -> Path:
    """A model's folder, with the default model's tokenizer, which gives 512 tokens."""
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(default_model()).save_pretrained(folder)
    return folder


def calibration_batches(batches: int = 2, length: int = 16) -> list[dict[str, Tensor]]:
    return [{"input_ids": token_ids(4, length, seed=100 + index)} for index in range(batches)]


def convert_tiny(ann: PreTrainedModel, **settings: Any) -> Model:
    """A spiking copy of `ann`, in its dtype."""
    return las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(**settings), calibration_batches())


@torch.no_grad()
def run(model: PreTrainedModel, execution: str, **batch: Any) -> Any:
    """The output of one call in an execution."""
    las_sj.set_execution(model, execution)
    return model(**batch)


def run_and_count(model: PreTrainedModel, execution: str, **batch: Any) -> tuple[Any, dict[str, tuple[int, int]]]:
    """The output of one call, and (neurons, spikes) of each site."""
    with SpikeMonitor(model) as monitor:
        output = run(model, execution, **batch)
    return output, {name: (counts.neurons, counts.spikes) for name, counts in monitor.sites.items()}


def relative_error(value: Tensor, reference: Tensor) -> float:
    return float((value.double() - reference.double()).norm() / reference.double().norm())
