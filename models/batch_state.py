"""Tensors that a model of transformers keeps between calls, with one row for each sequence."""

from typing import Any

from torch import Tensor

from las_sj.models.layers.spiking_layer import KnowsCalls


class RowsOfSequences:
    """An attribute of a `KnowsCalls` module: kept as [B, ...], and [T·B, ...] to modelling code in a temporal call."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, module: Any, owner: type) -> Any:
        if module is None:
            return self
        kept = module.__dict__.get(self.name)
        if not isinstance(kept, Tensor) or not module.execution.temporal:
            return kept
        return kept.repeat(module.execution.time_steps, *[1] * (kept.dim() - 1))

    def __set__(self, module: KnowsCalls, value: Any) -> None:
        if isinstance(value, Tensor) and module.execution.temporal:
            value = value[: len(value) // module.execution.time_steps]
        module.__dict__[self.name] = value
