"""Triangular systems, row by row."""

from typing import Any

import torch
from torch import Tensor

from las_sj.models.operations.registry import composite


@composite("linalg_solve_triangular")
def solve_triangular(
    input: Tensor,
    B: Tensor,  # noqa: N803  torch's own name
    *,
    upper: bool,
    left: bool = True,
    unitriangular: bool = False,
) -> Any:
    """X with input·X = B, for a lower triangle with ones in its diagonal: each row needs those before it.

    Raises:
        NotImplementedError: the system is another.
    """
    if upper or not left or not unitriangular:
        raise NotImplementedError("a triangular system but a lower one with ones in its diagonal has no spiking form")
    rows = [B[..., :1, :].expand(*input.shape[:-2], 1, B.shape[-1])]
    for i in range(1, input.shape[-1]):
        before = torch.cat(rows, -2)
        rows.append(B[..., i : i + 1, :] - torch.matmul(input[..., i : i + 1, :i], before))
    return torch.cat(rows, -2)
