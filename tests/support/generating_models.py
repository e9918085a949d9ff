"""Tiny random models that generate, of types that are converted by operations."""

import copy
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    FalconConfig,
    FalconForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    RecurrentGemmaConfig,
    RecurrentGemmaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

import las_sj

VOCABULARY = 64
PROMPT, NEW = 6, 3  # tokens
_SIZES: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_attention_heads": 2, "eos_token_id": None}
_GATED: dict[str, Any] = {"intermediate_size": 24, "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0}
_OF_ENCODERS: dict[str, Any] = {"vocab_size": VOCABULARY, "d_model": 16, "eos_token_id": None, "pad_token_id": 0}


def qwen3_moe() -> PreTrainedModel:
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "norm_topk_prob": True}
    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**_SIZES, **_GATED, **experts, num_hidden_layers=1))
    model.set_experts_implementation("batched_mm")  # others know no fp64
    return model


def gemma3() -> PreTrainedModel:
    """One layer with a window that is shorter than the prompt, one without."""
    layers = ["sliding_attention", "full_attention"]
    config = Gemma3TextConfig(**_SIZES, **_GATED, num_hidden_layers=2, sliding_window=4, layer_types=layers)
    return Gemma3ForCausalLM(config)


def falcon() -> PreTrainedModel:
    return FalconForCausalLM(FalconConfig(**_SIZES, num_hidden_layers=1, bos_token_id=1, pad_token_id=0))


def t5() -> PreTrainedModel:
    config = T5Config(**_OF_ENCODERS, d_kv=8, d_ff=24, num_layers=1, num_heads=2, decoder_start_token_id=0)
    return T5ForConditionalGeneration(config)


def bart() -> PreTrainedModel:
    layers = {f"{part}_{what}": size for part in ("encoder", "decoder") for what, size in _BART.items()}
    config = BartConfig(**_OF_ENCODERS, **layers, decoder_start_token_id=2, forced_eos_token_id=None)
    return BartForConditionalGeneration(config)


_BART = {"layers": 1, "attention_heads": 2, "ffn_dim": 24}


def mamba() -> PreTrainedModel:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 1, "state_size": 4, "time_step_rank": 2}
    return MambaForCausalLM(MambaConfig(**sizes, eos_token_id=None, pad_token_id=0))


def recurrent_gemma() -> PreTrainedModel:
    """It keeps its state in attributes of modules."""
    sizes = {"lru_width": 16, "attention_window_size": 8, "num_hidden_layers": 3}
    return RecurrentGemmaForCausalLM(RecurrentGemmaConfig(**_SIZES, **_GATED, **sizes))


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    make.__name__: make for make in (qwen3_moe, gemma3, falcon, t5, bart, mamba, recurrent_gemma)
}


def prompt(seed: int = 1, rows: int = 2) -> Tensor:
    return torch.randint(3, VOCABULARY, (rows, PROMPT), generator=torch.Generator().manual_seed(seed))


def batch_of(model: PreTrainedModel, seed: int = 1, length: int = PROMPT + NEW) -> dict[str, Tensor]:
    """A batch for calls of a model."""
    ids = torch.randint(3, VOCABULARY, (2, length), generator=torch.Generator().manual_seed(seed))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return batch | {"decoder_input_ids": ids.flip(1)} if model.config.is_encoder_decoder else batch


@torch.no_grad()
def ann(name: str, dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    """A model with weights so wide that no function is near a line."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MODELS[name]()
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, parameter[0].numel() ** -0.5)
    model.generation_config.eos_token_id = None
    return model.to(dtype).eval()


def spiking(name: str, dtype: torch.dtype = torch.float64) -> Any:
    """The same model, converted; a copy for each caller."""
    return copy.deepcopy(_kept(name, dtype))


def converted_anew(name: str, dtype: torch.dtype = torch.float64) -> Any:
    """The same, by the code as it is now: a test may have changed it."""
    model = ann(name, dtype)
    batches = [batch_of(model, seed) for seed in range(6)]
    return las_sj.convert(model, las_sj.LASConfig(headroom=3.0), batches)  # of so few tokens, all in range


_kept = cache(converted_anew)


def generate(model: Any, **options: Any) -> Tensor:
    """Greedy tokens."""
    ids = options.pop("input_ids", prompt())
    greedy = partial(model.generate, ids, max_new_tokens=NEW, do_sample=False)
    tokens: Tensor = greedy(**{"attention_mask": torch.ones_like(ids)} | options)
    return tokens
