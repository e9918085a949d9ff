"""Reading the tables of sub-neurons."""

import torch
from torch import Tensor

Selected = tuple[Tensor, Tensor, Tensor]  # of the open sub-neuron: coded share of its width, bias, amplitude


def look_up(table: Tensor, index: Tensor, v: Tensor) -> Tensor:
    """`table` ([M]) at `index`, in the shape of the index; parameters in the dtype of `v`."""
    values = torch.index_select(table, 0, index.reshape(-1)).view(index.shape)
    return values.to(v.dtype) if values.is_floating_point() else values
