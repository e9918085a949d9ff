"""Settings of a conversion."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch

from las_sj.models import NeuronFactory
from las_sj.models.site_codes import SiteCode, site_codes_in
from las_sj.neurons import MultiThresholdCode
from las_sj.neurons.line_budget import LEAST_LINES, MOST_LINES, is_number_of_lines
from las_sj.neurons.precision import HALF
from las_sj.presets import settings_of


@dataclass(frozen=True)
class LASConfig:
    """How to convert a model.

    Args:
        time_steps: T, 1 … 24.
        levels: n, spike amplitudes per time step, 1 … 127.
        rounding: "nearest" (signed; fewer steps for the same error) or "floor" (as published).
        max_spikes: spikes a neuron may emit per window, or None; T or more is no limit.
        outlier_aware: two sub-neurons per site (OAT); False is the paper's single-threshold ablation.
        hg_tolerance: error that HG neurons are fitted to, 1e-7 … 0.1.
        hg_lines: that a population of HG neurons may store, 8 … 1024: each then has the least error over its calibrated
            range that so many allow, but no less than the tolerance; None: as many as the tolerance asks for.
        last_step: θ(T), the least that populations which feed weights emit, over the mean magnitude that they code,
            2^-16 … 2, where it is not larger already. None: as small as the least coding error asks for.
        headroom: ranges are this much larger than the largest calibrated value, ≥ 1.
        power_of_two_units: whether calibration makes θ/n of all neurons that code values powers of two: spikes of up to
            63 levels are then exact in bf16, fp16 and int8. None: in models of half precision.
        keep_analog: patterns (as in fnmatch) of module names that stay analog.
        fewer_stages: whether norms, softmax and activations take their short forms, in which a population computes and
            codes at once: a block has 12 or 13 stages instead of 21 or 22. For models of known families.
        by_operations: whether a model of a known family is converted by operations too, as all others are.
        seed: seed of generated calibration data.
        site_codes: levels and spike limits of single populations, as `las_sj.optimize` chooses them.

    Raises:
        ValueError: a setting is out of its range; the message names it.
    """

    time_steps: int = 16
    levels: int = 15
    rounding: str = "nearest"
    max_spikes: int | None = None
    outlier_aware: bool = True
    hg_tolerance: float = 1e-5
    hg_lines: int | None = None
    last_step: float | None = None
    headroom: float = 1.5
    power_of_two_units: bool | None = None
    keep_analog: tuple[str, ...] = ()
    by_operations: bool = False
    fewer_stages: bool = False
    seed: int = 0
    site_codes: tuple[SiteCode, ...] = ()

    def __post_init__(self) -> None:
        _ = self.code  # validates the first four
        if not isinstance(self.outlier_aware, bool):
            raise ValueError(f"outlier_aware must be True or False, got {self.outlier_aware!r}")
        if not _is_number(self.hg_tolerance) or not 1e-7 <= self.hg_tolerance <= 0.1:
            raise ValueError(f"hg_tolerance must lie in 1e-7…0.1, got {self.hg_tolerance!r}")
        if self.hg_lines is not None and not is_number_of_lines(self.hg_lines):
            raise ValueError(
                f"hg_lines must be an integer in {LEAST_LINES}…{MOST_LINES} or None, got {self.hg_lines!r}"
            )
        if self.last_step is not None and (not _is_number(self.last_step) or not 2.0**-16 <= self.last_step <= 2):
            raise ValueError(f"last_step must lie in 2^-16…2 or be None, got {self.last_step!r}")
        if not _is_number(self.headroom) or not 1 <= self.headroom <= 1024:
            raise ValueError(f"headroom must lie in 1…1024, got {self.headroom!r}")
        if self.power_of_two_units is not None and not isinstance(self.power_of_two_units, bool):
            raise ValueError(f"power_of_two_units must be True, False or None, got {self.power_of_two_units!r}")
        for name in ("by_operations", "fewer_stages"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.by_operations and self.fewer_stages:
            raise ValueError("fewer_stages is for models converted by their family: leave out by_operations")
        patterns = self.keep_analog
        if not isinstance(patterns, list | tuple) or not all(isinstance(item, str) for item in patterns):
            raise ValueError(f"keep_analog must be a list of patterns, got {self.keep_analog!r}")
        object.__setattr__(self, "keep_analog", tuple(self.keep_analog))
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or abs(self.seed) >= 2**63:
            raise ValueError(f"seed must be an integer of at most 63 bits, got {self.seed!r}")
        object.__setattr__(self, "site_codes", site_codes_in(self.site_codes))

    @classmethod
    def preset(cls, name: str, **settings: Any) -> "LASConfig":
        """Settings that go together: "exact", "efficient" or "minimal"; docs/pareto.md has what each loses.

        Args:
            name: of the preset.
            settings: that take the place of the preset's, or add to them.

        Raises:
            ValueError: there is no such preset, or a setting is out of its range.
        """
        return cls(**settings_of(name) | settings)

    @property
    def code(self) -> MultiThresholdCode:
        """Settings of the neurons that code values."""
        return MultiThresholdCode(self.time_steps, self.levels, self.rounding, self.max_spikes)

    @property
    def counted_in(self) -> str:
        """The fastest execution in which neurons spike."""
        return "accumulated"

    @property
    def in_words(self) -> str:
        """What matters most, for titles."""
        stages = ", fewer stages" if self.fewer_stages else ""
        own = f" (but for {len(self.site_codes)} populations with codes of their own)" if self.site_codes else ""
        return f"T = {self.time_steps}, {self.levels} levels{own}, {self.rounding}{stages}"

    def factory(self) -> NeuronFactory:
        """Makes neurons with these settings."""
        units = bool(self.power_of_two_units)
        return NeuronFactory(self.code, self.hg_tolerance, self.outlier_aware, units, self.hg_lines, self.fewer_stages)

    def settled(self, dtype: torch.dtype) -> "LASConfig":
        """These settings with the choice made that depends on the dtype of a model."""
        if self.power_of_two_units is not None:
            return self
        return replace(self, power_of_two_units=dtype in HALF)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        codes = [code.plain for code in self.site_codes]
        values = asdict(self) | {"keep_analog": list(self.keep_analog), "site_codes": codes}
        for name in ("fewer_stages", "last_step", "site_codes"):  # older versions read what has no such entry
            if not values[name]:
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "LASConfig":
        """The inverse of `to_dict`; entries of other names are ignored."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
