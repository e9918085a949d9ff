"""Qwen2-VL. The patches of all images ride in one row, and its vision attention is called image by image."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.qwen2_vl.modeling_qwen2_vl import rotate_half

from las_sj.models.batch_state import RowsOfSequences
from las_sj.models.layers.attention import SpikingAttention
from las_sj.models.layers.spiking_layer import KnowsCalls
from las_sj.models.registry import Family, register_family


class VisionAttention(SpikingAttention):
    """Attention among the patches of each image, [T·P, C] to [T·P, C]: modelling code would take the time steps of an
    image for as many images."""

    qkv: nn.Module
    proj: nn.Module
    num_heads: int
    scaling: float

    def forward(
        self,
        hidden_states: Tensor,
        cu_seqlens: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Attend.

        Args:
            hidden_states: currents of the patches of all images, t-major.
            cu_seqlens: where the patches of each image begin, [T·images + 1].
            position_embeddings: cosine and sine of the patches' positions, [T·P, D] each.
        """
        assert position_embeddings is not None
        query, key, value = self.qkv(hidden_states).unflatten(1, (3, self.num_heads, -1)).unbind(1)  # [T·P, H, D]
        query, key = _rotate(query, *position_embeddings), _rotate(key, *position_embeddings)
        time_steps = self.execution.time_steps if self.execution.temporal else 1
        lengths = (cu_seqlens[1:] - cu_seqlens[:-1]).tolist()
        of_images = lengths[: len(lengths) // time_steps]
        images = zip(*(_by_image(x, time_steps, of_images) for x in (query, key, value)), strict=True)
        outputs = [self.las_attention(*image, None, self.scaling).transpose(1, 2) for image in images]  # [T, P_i, H, D]
        return self.proj(torch.cat(outputs, 1).flatten(2).flatten(0, 1))  # type: ignore[no-any-return]


class KeepsRopeDeltas(KnowsCalls):
    """A model that keeps the offset of each sequence's positions for the tokens that follow, [B, 1]."""

    rope_deltas = RowsOfSequences()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions, at least in single precision."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    cos, sin = cos.unsqueeze(-2).to(dtype), sin.unsqueeze(-2).to(dtype)
    wide = x.to(dtype)
    return (wide * cos + rotate_half(wide) * sin).to(x.dtype)


def _by_image(x: Tensor, time_steps: int, lengths: list[int]) -> list[Tensor]:
    """[T·P, H, D] to [T, H, P_i, D] of each image."""
    return [part.transpose(1, 2) for part in x.unflatten(0, (time_steps, -1)).split(lengths, 1)]


QWEN2_VL = register_family(
    Family(
        model_types=("qwen2_vl", "qwen2_vl_text", "qwen2_vl_vision"),
        attention={"Qwen2VLAttention": ("q_proj", "k_proj", "v_proj")},
        layers={"VisionAttention": VisionAttention},
        batch_state={"Qwen2VLModel": KeepsRopeDeltas},
    )
)
