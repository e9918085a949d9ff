"""Attention as torch has it, composed of linear layers, products and softmax."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from las_sj.models.operations.operation import MASKED
from las_sj.models.operations.registry import composite


@composite("scaled_dot_product_attention")
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(q·kᵀ/√D + mask)·v, [..., H, S_q, D] to the same."""
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (x.repeat_interleave(groups, -3) for x in (key, value))
    scores = torch.matmul(query * (query.shape[-1] ** -0.5 if scale is None else scale), key.transpose(-1, -2))
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros(attn_mask.shape, device=attn_mask.device).masked_fill(~attn_mask, MASKED)
    scores = scores if attn_mask is None else scores + attn_mask
    return torch.matmul(F.dropout(torch.softmax(scores, -1), dropout_p, dropout_p > 0), value)


@composite("multi_head_attention_forward")
def multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, None]:
    """`nn.MultiheadAttention`, [S, T·B, C] to the same, as it hands them over; without weights to return.

    Raises:
        NotImplementedError: keys or values are added.
    """
    if bias_k is not None or bias_v is not None or add_zero_attn or static_k is not None or static_v is not None:
        raise NotImplementedError("nn.MultiheadAttention with keys or values that are added has no spiking form")
    weights: Any = (q_proj_weight, k_proj_weight, v_proj_weight)
    if not use_separate_proj_weight and in_proj_weight is not None:
        weights = in_proj_weight.chunk(3)
    biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    q, k, v = (
        F.linear(x, weight, bias).unflatten(-1, (num_heads, -1)).movedim(0, -2)  # [T·B, H, S, D]
        for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
    )
    mask = _mask_of(attn_mask, key_padding_mask, num_heads)
    output = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout_p if training else 0.0)
    return F.linear(output.movedim(-2, 0).flatten(2), out_proj_weight, out_proj_bias), None


def _mask_of(attn_mask: Tensor | None, key_padding_mask: Tensor | None, heads: int) -> Tensor | None:
    """What is added to scores [T·B, H, S_q, S_k]; bool masks are set where an entry is hidden."""
    masks = [_added(mask) for mask in (attn_mask,) if mask is not None]
    if masks and masks[0].dim() == 3:  # [T·B·H, S_q, S_k]
        masks[0] = masks[0].unflatten(0, (-1, heads))
    if key_padding_mask is not None:  # [T·B, S_k]
        masks.append(_added(key_padding_mask)[:, None, None])
    return None if not masks else sum(masks[1:], start=masks[0])


def _added(mask: Tensor) -> Tensor:
    hidden = mask.dtype == torch.bool
    return torch.zeros(mask.shape, device=mask.device).masked_fill(mask, MASKED) if hidden else mask
