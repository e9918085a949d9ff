"""Embeddings: sources of constant current."""

from typing import Any

from torch import Tensor, nn

from las_sj.models.layers.spiking_forms import spiking_form_of
from las_sj.models.layers.spiking_layer import SpikingLayer


@spiking_form_of(nn.Embedding)
class SpikingEmbedding(SpikingLayer):
    """An embedding that emits its row as a constant current, 1/T per time step: ids [T·B, S] to [T·B, S, C]."""

    returns = "constant currents"
    embedding_dim: int

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.per_step(super().forward(*args, **kwargs))
