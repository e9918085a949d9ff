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
        analog_operations: what an audit found to be analog, function and place in the code, by the names of modules;
            None where none was made, as in models of known families, whose layers are audited in tests.
    """

    spiking: dict[str, int]
    analog: dict[str, str]
    decisions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    analog_operations: Mapping[str, tuple[str, ...]] | None = None
