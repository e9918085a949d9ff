"""Random-weight models with quantised activations, and the fully spiking networks that they become."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from tiny_models import Model, bert, calibration_batches, gpt2, llama
from torch import nn
from transformers import BertForSequenceClassification, OPTConfig, OPTForCausalLM

import las_sj
from las_sj.conversion.rate_coded import quantise
from las_sj.neurons.rate_coded import QCFSQuantizer

LEVELS = 8


def opt() -> Model:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 64, "init_std": 0.2}
    config = OPTConfig(vocab_size=100, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64, **sizes)
    return OPTForCausalLM(config).eval()


MODELS: dict[str, Callable[[], Model]] = {
    "bert": lambda: bert(BertForSequenceClassification, num_labels=3),
    "gpt2": gpt2,
    "llama": llama,
    "opt": opt,
}
# Of each model: the activation of its first layer, and the linear layer that takes its spikes.
FED = {
    "bert": ("bert.encoder.layer.0.intermediate.intermediate_act_fn", "bert.encoder.layer.0.output.dense"),
    "gpt2": ("transformer.h.0.mlp.act", "transformer.h.0.mlp.c_proj"),
    "opt": ("model.decoder.layers.0.activation_fn", "model.decoder.layers.0.fc2"),
}


def quantised(ann: nn.Module, **settings: Any) -> Model:
    """The ANN with quantised activations, which a fully spiking network is compared with."""
    model: Model = copy.deepcopy(ann)
    quantise(model, las_sj.FASConfig(levels=LEVELS, **settings), calibration_batches())
    with torch.no_grad():  # no two alike, as if trained
        for number, module in enumerate(quantisers_of(model).values()):
            module.theta.mul_(1 + 0.03 * number)
    return model


def fully_spiking(model: nn.Module, time_steps: int = 16, **settings: Any) -> Model:
    config = las_sj.FASConfig(levels=LEVELS, time_steps=time_steps, fully_spiking=True, **settings)
    return las_sj.convert(copy.deepcopy(model), config, calibration_batches())


def quantisers_of(model: nn.Module) -> dict[str, QCFSQuantizer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, QCFSQuantizer)}
