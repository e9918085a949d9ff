"""How a network of rate codes is run in time: the same input in each lane, and the mean of their outputs."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Lanes:
    """The lanes of a temporal call, one for each time step: everything but neurons runs once in each.

    Args:
        time_steps: T, lanes whose outputs are averaged.
        before: lanes before them, in which neurons are simulated, but whose outputs are not read (SRP's τ).
        looked_ahead: of the T lanes, how many neurons are simulated for beforehand (COS's ρ), layer by layer.
    """

    time_steps: int
    before: int = 0
    looked_ahead: int = 0

    @property
    def count(self) -> int:
        """Lanes of a call."""
        return self.before + self.time_steps

    @property
    def presented(self) -> int:
        """How often hardware would present the input: the lanes, and once more those that are looked ahead at."""
        return self.count + self.looked_ahead

    def mean(self, x: Tensor) -> Tensor:
        """The value of what each lane holds: the mean of those that are read, [T·B, ...] to [B, ...]."""
        return x.unflatten(0, (self.count, -1))[self.before :].mean(0)
