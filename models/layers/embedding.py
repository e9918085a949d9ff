"""Embeddings: sources of constant current."""

from typing import Any

from torch import Tensor

from las_sj.models.layers.spiking_layer import SpikingLayer


class SpikingEmbedding(SpikingLayer):
    """Emits its row as a constant current, 1/T of it per time step. Ids [T·B, S] to currents [T·B, S, C]."""

    embedding_dim: int

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.per_step(super().forward(*args, **kwargs))
