"""Settings of a conversion to rate codes: FAS, and the baselines QCFS, SRP and COS."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from las_sj.config import LASConfig
from las_sj.models.lanes import Lanes
from las_sj.neurons.rate_coded import (
    OffsetCalibratedIFNode,
    QCFSIFNode,
    RateCodedNode,
    ResidualPotentialIFNode,
)

METHODS = ("fas", "qcfs", "srp", "cos")
LOOKING = ("srp", "cos")  # simulate some steps beforehand
GRANULARITIES = ("site", "channel", "position")
MOST_STEPS = 32


@dataclass(frozen=True)
class FASConfig:
    """How to convert a model to rate codes.

    Args:
        levels: L of the activations that the ANN is trained with, 1 … 127.
        time_steps: T, 1 … 32.
        method: "fas", "qcfs", "srp" or "cos".
        presimulation_steps: τ of SRP, or ρ ≤ T of COS. None: 4, or T if that is less.
        iterations: shifts of COS.
        granularity: of what FAS calibrates: one Θ and β for each "site", "channel", or "position" and channel (as
            released; for inputs of `positions` tokens at most). Of a network that is calibrated it says what was.
        positions: tokens that thresholds are there for, with granularity "position".
        clip_first: gradient of the quantiser, as in `las_sj.neurons.rate_coded.QCFSQuantizer`.
        percentile: of the positive inputs of a site, at which its threshold begins, in percent.
        sites: patterns (as in fnmatch) of names of activation modules; others stay as they are.
        fully_spiking: whether all else becomes spiking too, by LAS.
        seed: of generated calibration data.

    Raises:
        ValueError: a setting is out of its range; the message names it.
    """

    levels: int = 8
    time_steps: int = 4
    method: str = "fas"
    presimulation_steps: int | None = None
    iterations: int = 1
    granularity: str = "channel"
    positions: int | None = None
    clip_first: bool = True
    percentile: float = 99.9
    sites: tuple[str, ...] = ("*",)
    fully_spiking: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self.granularity not in GRANULARITIES:
            raise ValueError(f"granularity must be one of {', '.join(GRANULARITIES)}, got {self.granularity!r}")
        _whole("levels", self.levels, 1, 127)
        _whole("time_steps", self.time_steps, 1, MOST_STEPS)
        _whole("iterations", self.iterations, 0, MOST_STEPS)
        self._check_presimulation()
        self._check_granularity()
        if isinstance(self.percentile, bool) or not isinstance(self.percentile, int | float):
            raise ValueError(f"percentile must be a number, got {self.percentile!r}")
        if not 0 < self.percentile <= 100:
            raise ValueError(f"percentile must lie in (0, 100], got {self.percentile!r}")
        for name in ("clip_first", "fully_spiking"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.fully_spiking and self.method in LOOKING:
            raise ValueError(
                f"fully_spiking has nothing for method {self.method!r} to mend: LAS's windows leave no unevenness, "
                "choose fas or qcfs"
            )
        if self.fully_spiking:
            _ = self.las  # validates time_steps, of which LAS has fewer
        patterns = self.sites
        if not isinstance(patterns, list | tuple) or not patterns or not all(isinstance(p, str) for p in patterns):
            raise ValueError(f"sites must be a list of patterns, got {self.sites!r}")
        object.__setattr__(self, "sites", tuple(patterns))
        _whole("seed", self.seed, -(2**63) + 1, 2**63 - 1)

    def _check_presimulation(self) -> None:
        steps = self.presimulation_steps
        if steps is None:
            return
        if self.method not in LOOKING:
            raise ValueError(f"presimulation_steps are for methods srp and cos, not {self.method}: leave them out")
        _whole("presimulation_steps", steps, 0 if self.method == "srp" else 1, MOST_STEPS)
        if self.method == "cos" and steps > self.time_steps:
            raise ValueError(f"presimulation_steps of cos must be at most time_steps ({self.time_steps}), got {steps}")

    def _check_granularity(self) -> None:
        if self.method != "cos" and self.iterations != 1:
            raise ValueError(f"iterations are for method cos, not {self.method}: leave them out")
        if self.method != "fas" and self.granularity != "channel":
            raise ValueError(f"granularity is for method fas, not {self.method}: leave it out")
        if self.granularity == "position":
            _whole("positions", self.positions, 1, 1 << 20)
        elif self.positions is not None:
            raise ValueError("positions are for granularity 'position' alone: leave them out")

    @property
    def planned(self) -> tuple[str, int | None]:
        """Granularity and positions that were asked for, where a coarse search has found less for now."""
        plan: tuple[str, int | None] = vars(self).get("_planned", (self.granularity, self.positions))
        return plan

    def calibrated_as(self, shapes: Sequence[Sequence[int]]) -> "FASConfig":
        """These settings with the granularity that calibrated thresholds have; what was planned is remembered.

        Args:
            shapes: of Θ at each site: [], [C] or [S, C]; without any, nothing changes.
        """
        if not shapes:
            return self
        finest = max(shapes, key=len)
        positions = finest[0] if len(finest) == 2 else None
        found = replace(self, granularity=GRANULARITIES[len(finest)], positions=positions)
        is_less = GRANULARITIES.index(found.granularity) < GRANULARITIES.index(self.planned[0])
        object.__setattr__(found, "_planned", self.planned if is_less else (found.granularity, positions))
        return found

    @property
    def steps_beforehand(self) -> int:
        """τ, ρ, or 0."""
        if self.method not in LOOKING:
            return 0
        return min(4, self.time_steps) if self.presimulation_steps is None else self.presimulation_steps

    @property
    def lanes(self) -> Lanes:
        """Of temporal calls."""
        steps = self.steps_beforehand
        return Lanes(self.time_steps, steps, 0) if self.method == "srp" else Lanes(self.time_steps, 0, steps)

    @property
    def las(self) -> LASConfig:
        """Settings of the neurons that code everything else, where the network is fully spiking."""
        return LASConfig(time_steps=self.time_steps, seed=self.seed)

    @property
    def counted_in(self) -> str:
        """The fastest execution in which neurons spike: rate codes do in time alone."""
        return "accumulated" if self.fully_spiking else "temporal"

    @property
    def in_words(self) -> str:
        """What matters most, for titles."""
        before = f", {self.steps_beforehand} steps beforehand" if self.steps_beforehand else ""
        return f"{self.method.upper()}, T = {self.time_steps}{before}, L = {self.levels}"

    def node(self, theta: Any) -> RateCodedNode:
        """Neurons of this method, before any calibration.

        Args:
            theta: their thresholds.
        """
        if self.method == "srp":
            return ResidualPotentialIFNode(theta, self.steps_beforehand, is_trained=True)
        if self.method == "cos":
            return OffsetCalibratedIFNode(theta, self.steps_beforehand, self.iterations, is_trained=True)
        return QCFSIFNode(theta, is_trained=True)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"sites": list(self.sites)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FASConfig":
        """The inverse of `to_dict`; entries of other names are ignored."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})

    def at(self, time_steps: int) -> "FASConfig":
        """These settings with another T; ρ is no larger than it."""
        steps = self.presimulation_steps
        if self.method == "cos" and steps is not None:
            steps = min(steps, time_steps)
        return replace(self, time_steps=time_steps, presimulation_steps=steps)


def _whole(name: str, value: Any, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{name} must be an integer of {least} … {most}, got {value!r}")
