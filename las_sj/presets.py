"""Settings that go together, from the least loss to the least energy."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

# `las_sj.optimize` leaves populations that feed weights with last steps of about the same share of the mean magnitude
# that they code, whatever the layer: so one share for all of them comes close to its results without its search.
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "exact": {"time_steps": 16, "levels": 15, "last_step": None},
        "efficient": {"time_steps": 12, "levels": 1, "last_step": 1 / 24},
        "minimal": {"time_steps": 10, "levels": 1, "last_step": 1 / 8},
    }
)


def settings_of(preset: str) -> dict[str, Any]:
    """The settings of `LASConfig` that a preset stands for.

    Args:
        preset: "exact", "efficient" or "minimal".

    Raises:
        ValueError: there is no such preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}")
    return dict(PRESETS[preset])
