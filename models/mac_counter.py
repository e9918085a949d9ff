"""torch's counter of floating-point operations, with the attention kernel that it leaves out."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def mac_counter() -> FlopCounterMode:
    """A context that counts matrix products, convolutions and attention, two operations for a multiply-accumulate.

    torch knows the fused attention kernels of GPUs; that of CPUs is added here. Masked scores are counted.
    """
    on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={on_cpu: _attention_flops})


def macs_of(counter: FlopCounterMode) -> int:
    """Multiply-accumulates that a counter has seen."""
    return counter.get_total_flops() // 2


def _attention_flops(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *others: Any, **options: Any
) -> int:
    """Of scores and values, from shapes [B, H, S, C]."""
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])
