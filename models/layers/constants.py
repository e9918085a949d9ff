"""Parameters that modelling code adds to currents outside any module."""

from typing import Any

from torch import Tensor

from las_sj.models.layers.spiking_layer import SpikingLayer


class ConstantCurrents(SpikingLayer):
    """A module that adds parameters of its own, such as a class token [1, 1, C], to its currents [T·B, S, C].

    In a temporal call they are constant currents, 1/T of them per step.

    `constants` (set from the family) names them.
    """

    constants: tuple[str, ...]

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        return (
            self.per_step(value) if name in self.__dict__.get("constants", ()) and isinstance(value, Tensor) else value
        )

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return super().forward(*args, **kwargs)  # type: ignore[no-any-return]
