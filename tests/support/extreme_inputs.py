"""Inputs that tests of kernels must get right, and the nodes that they are made for."""

from collections.abc import Callable

import torch
from torch import Tensor

from las_sj.neurons import HGNode, MTNode, OATNode, WindowNode

NORMAL, OUTLIER = 0.75, 20.0
CHANNELS = (0.1, 0.75, 3.0)

NODES: dict[str, Callable[[], WindowNode]] = {
    "oat": lambda: OATNode(NORMAL, OUTLIER, 16, 15),
    "oat floor": lambda: OATNode(NORMAL, OUTLIER, 12, 3, "floor", max_spikes=2),
    "mt": lambda: MTNode(OUTLIER, 16),
    "gelu": lambda: HGNode("gelu", 16, -30.0, 30.0),
    "exp": lambda: HGNode("exp", 16),
    "rsqrt": lambda: HGNode("rsqrt", 12),
}


def draw(size: int, seed: int, dtype: torch.dtype, largest: float = OUTLIER) -> Tensor:
    """Values of all sizes; thresholds, halves of steps and their neighbours; denormals, infinities, NaN."""
    if dtype in (torch.float16, torch.bfloat16):
        return draw(size, seed, torch.float32, largest).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    grid = torch.tensor([NORMAL, OUTLIER, *CHANNELS, 6.0, 10.0, 16.0, 20.0], dtype=dtype)
    ties = grid[:, None] * torch.tensor([1, 0.5, 0.25, 3 / 8, 2.0**-9, 2.0**-17], dtype=dtype)
    special = torch.cat([ties.flatten(), torch.tensor([0.0, 1e30, 1e-40, 1e-45, torch.inf, torch.nan], dtype=dtype)])
    special = torch.cat([special, torch.nextafter(special, special + 1), torch.nextafter(special, special - 1)])
    picked = special[torch.randint(len(special), (size,), generator=generator)]
    sizes = largest * torch.exp2(torch.rand(size, generator=generator, dtype=dtype) * 14 - 12)
    values = torch.where(torch.rand(size, generator=generator) < 0.3, picked, sizes)
    return values * (torch.randint(2, (size,), generator=generator) * 2 - 1)


def same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, but that zeros have no sign and every NaN is one."""
    return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | (a.isnan() & b.isnan())).all())
