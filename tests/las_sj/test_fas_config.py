"""Settings of rate codes: what a method does not have is refused, and config.json says what was calibrated."""

from typing import Any

import pytest

from las_sj import FASConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "qcfs", "granularity": "site"}, "granularity is for method fas, not qcfs: leave it out"),
        ({"method": "srp", "granularity": "position", "positions": 8}, "granularity is for method fas, not srp"),
        ({"method": "cos", "positions": 8}, "positions are for granularity 'position' alone"),
        ({"iterations": 2}, "iterations are for method cos, not fas: leave them out"),
        ({"method": "srp", "iterations": 0}, "iterations are for method cos, not srp"),
        ({"method": "qcfs", "presimulation_steps": 2}, "presimulation_steps are for methods srp and cos"),
        ({"granularity": "position"}, "positions must be an integer"),
    ],
    ids=str,
)
def test_what_a_method_does_not_have_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FASConfig(**settings)


@pytest.mark.parametrize("method", ["fas", "qcfs", "srp", "cos"])
def test_settings_survive_json(method: str) -> None:
    config = FASConfig(method=method)
    assert FASConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("shapes", "granularity", "positions"),
    [([[], []], "site", None), ([[], [8]], "channel", None), ([[8], [16, 8]], "position", 16)],
)
def test_settings_of_a_calibrated_network(shapes: list[list[int]], granularity: str, positions: int | None) -> None:
    """They say what there is; a plan that is finer is remembered."""
    plan = FASConfig(granularity="position", positions=32)
    found = plan.calibrated_as(shapes)
    assert (found.granularity, found.positions) == (granularity, positions)
    assert found.planned == (("position", 16) if positions else ("position", 32))
    assert "planned" not in "".join(found.to_dict())
    assert FASConfig.from_dict(found.to_dict()).planned == (granularity, positions)
    assert FASConfig(granularity="site").calibrated_as(shapes).planned == (granularity, positions)
    assert plan.calibrated_as([]) is plan
