"""What a conversion covered."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Coverage:
    """What became of the modules of a model.

    Args:
        spiking: how many modules of each original type became spiking layers; converted by operations, how many
            operations of each function.
        analog: names of the modules that compute and stayed as they were, with the reason.
        decisions: functions that are taken on sums over T (comparisons, top-k, pooling), by the names of modules.
    """

    spiking: dict[str, int]
    analog: dict[str, str]
    decisions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
