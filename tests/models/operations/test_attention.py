"""Attention of models that are converted by operations: the eager function of the module's own file."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from las_sj.models.operations.attention import native_attention, packed_attention


def eager_attention_forward(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, scaling: float, dropout: float
) -> tuple[Tensor, None]:
    """As some files have it: heads of keys are left to the kernels of torch."""
    return torch.softmax(query @ key.mT * scaling, -1) @ value, None


class Attention(nn.Module):
    """A module of this file."""


def test_fewer_heads_of_keys_than_the_file_expects() -> None:
    query, key, value = (torch.randn(2, heads, 5, 8) for heads in (4, 2, 2))
    output = native_attention(Attention(), query, key, value, None)[0]
    torch.testing.assert_close(output, F.scaled_dot_product_attention(query, key, value, enable_gqa=True))


def test_images_in_one_row_attend_each_to_itself() -> None:
    """In a call of no converted model too, such as one that counts operations of the ANN."""
    query, key, value = (torch.randn(1, 2, 7, 8) for _ in range(3))
    output = packed_attention(nn.Identity(), query, key, value, None, cu_seq_lens_q=torch.tensor([0, 3, 7]))[0]
    images = ((query[:, :, part], key[:, :, part], value[:, :, part]) for part in (slice(3), slice(3, 7)))
    expected = torch.cat([native_attention(nn.Identity(), *image, None)[0] for image in images], 1)
    torch.testing.assert_close(output, expected)
