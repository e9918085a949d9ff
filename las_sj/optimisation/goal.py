"""What an optimisation is to reach, and with what."""

from dataclasses import dataclass

from las_sj.analysis.energies.energy import ACCOUNTINGS
from las_sj.neurons import MultiThresholdCode

LEAST_STEPS = 4
ROOM = 11  # time steps from which levels save nothing where each bit of a payload is paid for
FEW = 8  # time steps up to which more levels are tried, and thresholds of massive channels apart: more need neither
MORE_LEVELS = (63, 127)
LEVELS = {"level_aware": (1, 3, 7, 15), "paper": (3, 7, 15), "with_memory": (3, 7, 15)}
LIMITS = {"level_aware": (None,), "paper": (1, 2, 3, None), "with_memory": (1, 2, 3, None)}


@dataclass(frozen=True)
class Goal:
    """A loss that may not be exceeded, or an energy, of which the other is made as small as can be.

    Args:
        loss: mean divergence of a prediction, in nats (0.003 is 0.3 % of perplexity), or relative error of the output
            of models that predict nothing; None where energy is given.
        energy: of the network over that of the ANN; None where a loss is given.
        accounting: "level_aware", "paper" or "with_memory".
        binary: whether spikes have one amplitude each, without levels.

    Raises:
        ValueError: both or none are given, or one is out of its range.
    """

    loss: float | None = None
    energy: float | None = None
    accounting: str = "level_aware"
    binary: bool = False

    def __post_init__(self) -> None:
        if (self.loss is None) == (self.energy is None):
            raise ValueError("give a loss or an energy, and not both")
        for name in ("loss", "energy"):
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 100:
                raise ValueError(f"{name} must be a positive number below 100, got {value!r}")
        if self.accounting not in ACCOUNTINGS:
            raise ValueError(f"accounting must be one of {', '.join(ACCOUNTINGS)}, got {self.accounting!r}")
        if not isinstance(self.binary, bool):
            raise ValueError(f"binary must be True or False, got {self.binary!r}")

    def codes(self, time_steps: int, rounding: str) -> list[MultiThresholdCode]:
        """The codes that populations may have; what an accounting has no use for is not among them.

        Binary spikes win where each bit of a payload is paid for, unless T is too small for them.
        """
        has_room = self.accounting == "level_aware" and time_steps >= ROOM
        levels = (1,) if self.binary or has_room else LEVELS[self.accounting]
        if time_steps <= FEW and self.accounting == "level_aware" and not self.binary:
            levels += MORE_LEVELS
        limits = (None,) if self.binary and self.accounting == "level_aware" else LIMITS[self.accounting]
        codes = [MultiThresholdCode(time_steps, n, rounding, k) for n in levels for k in limits]
        return list(dict.fromkeys(codes))
