"""What a conversion covered."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Coverage:
    """What became of the modules of a model.

    Args:
        spiking: how many modules of each original type became spiking layers.
        analog: names of the modules that compute and stayed as they were, with the reason.
    """

    spiking: dict[str, int]
    analog: dict[str, str]
