"""Losses that are computed at the end of a temporal call, from logits that are whole by then."""

from typing import Any

from torch import Tensor, nn
from transformers.loss.loss_utils import ForCausalLMLoss, ForMaskedLMLoss, ForSequenceClassificationLoss
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from las_sj.models.heads import classifies_sequences


def has_token_loss(model: nn.Module) -> bool:
    """Whether the loss of a model is that of causal or masked language modelling, and of nothing else.

    Encoder–decoders make tokens of their labels, and routers have a loss of their own.
    """
    config: Any = getattr(model, "config", None)
    if config is None or config.is_encoder_decoder or getattr(config, "output_router_logits", False):
        return False
    return _is_masked(model) or type(model).__name__ in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()


def _is_masked(model: nn.Module) -> bool:
    return type(model).__name__ in MODEL_FOR_MASKED_LM_MAPPING_NAMES.values()


def loss_at_end(logits: Tensor, labels: Tensor, model: Any) -> Tensor:
    """The loss that modelling code would have computed.

    Args:
        logits: whole, [B, classes] of a model that classifies sequences, else [B, S, V].
        labels: [B], or [B, S].
        model: one that `classifies_sequences`, or `has_token_loss`.
    """
    if classifies_sequences(model):
        loss: Tensor = ForSequenceClassificationLoss(labels, logits, model.config)
        return loss
    kind = ForMaskedLMLoss if _is_masked(model) else ForCausalLMLoss
    loss = kind(logits, labels, model.config.get_text_config().vocab_size)
    return loss
