"""LASConfig: every bad value is refused at construction, by name."""

import json
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import torch

import las_sj
from las_sj import LASConfig
from las_sj.models.site_codes import SiteCode
from las_sj.presets import PRESETS, settings_of

BAD: dict[str, list[Any]] = {
    "time_steps": [0, 25, -1, 1.0, "16", None, True],
    "levels": [0, 128, -3, 2.5, "1", None, False],
    "rounding": ["ceil", "", None, 1],
    "max_spikes": [0, -1, 1.5, "2", True],
    "outlier_aware": [1, None, "yes"],
    "hg_tolerance": [0.0, -1e-5, 1e-8, 0.2, float("nan"), float("inf"), "1e-5", None, True],
    "hg_lines": [0, -1, 7, 1025, 16.0, "64", True],
    "last_step": [0.0, -0.1, 2.0**-17, 2.1, float("nan"), float("inf"), "0.1", True],
    "headroom": [0.99, 0, -1, 1025, float("nan"), float("inf"), "1.5", None, True],
    "power_of_two_units": [1, 0, "yes"],
    "keep_analog": ["mlp", 3, None, [1], {"mlp": 1}],
    "by_operations": [1, 0, "yes", None],
    "fewer_stages": [1, 0, "yes", None],
    "seed": [1.0, "0", None, True],
    "site_codes": [5, "head", {"head": 1}, None],
}
GOOD: dict[str, list[Any]] = {
    "time_steps": [1, 24],
    "levels": [1, 127],
    "rounding": ["floor", "nearest"],
    "max_spikes": [None, 1, 100],
    "outlier_aware": [True, False],
    "hg_tolerance": [1e-7, 0.1],
    "hg_lines": [None, 8, 1024],
    "last_step": [None, 2.0**-16, 0.1, 2],
    "headroom": [1, 1024, 1.5],
    "power_of_two_units": [None, True, False],
    "keep_analog": [(), ["*mlp*"], ("lm_head",)],
    "by_operations": [False, True],
    "fewer_stages": [False, True],
    "seed": [0, -1, 2**40],
    "site_codes": [(), (SiteCode("head", 3, None), SiteCode("0.mlp", 127, 2))],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_values(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name) as raised:
        LASConfig(**{name: value})
    assert repr(value) in str(raised.value)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in GOOD.items() for value in values])
def test_good_values_survive_json(name: str, value: Any) -> None:
    config = LASConfig(**{name: value})
    stored = json.loads(json.dumps(config.to_dict()))
    assert LASConfig.from_dict(stored) == config
    # Every setting is stored, and tested here; one that older versions do not know only where it is set.
    left_out = [setting for setting in ("fewer_stages", "last_step", "site_codes") if not getattr(config, setting)]
    assert list(stored) == [setting for setting in BAD if setting not in left_out]
    expected = tuple(value) if name == "keep_analog" else value
    assert getattr(config, name) == expected


def test_from_dict_ignores_other_entries() -> None:
    assert LASConfig.from_dict({"levels": 3, "quant_method": "las", "other": object()}) == LASConfig(levels=3)


def test_from_dict_validates() -> None:
    with pytest.raises(ValueError, match="levels"):
        LASConfig.from_dict({"levels": 0})


def test_frozen_and_hashable() -> None:
    config = LASConfig(keep_analog=["a"])  # type: ignore[arg-type]
    with pytest.raises(FrozenInstanceError):
        config.levels = 3  # type: ignore[misc]
    assert hash(config) == hash(LASConfig(keep_analog=("a",)))


def test_factory_passes_the_settings_on() -> None:
    factory = LASConfig(
        time_steps=9, levels=3, rounding="floor", max_spikes=2, hg_tolerance=1e-3, hg_lines=20
    ).factory()
    node, activation = factory.coder(), factory.non_linearity("gelu")
    assert node.code == factory.code
    assert (node.code.time_steps, node.code.levels, node.code.rounding, node.code.max_spikes) == (9, 3, "floor", 2)
    assert (activation.time_steps, activation.tolerance, activation.lines) == (9, 1e-3, 20)


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name: str) -> None:
    preset = LASConfig.preset(name)
    assert preset == LASConfig(**settings_of(name))
    assert LASConfig.preset(name, time_steps=9, headroom=2.0) == replace(preset, time_steps=9, headroom=2.0)
    assert LASConfig.from_dict(preset.to_dict()) == preset


def test_the_exact_preset_is_the_default() -> None:
    assert LASConfig.preset("exact") == LASConfig()


def test_presets_cannot_be_changed_by_those_who_ask() -> None:
    settings_of("efficient")["time_steps"] = 1
    assert LASConfig.preset("efficient").time_steps == 12


@pytest.mark.parametrize("name", ["", "fast", None, 3])
def test_no_such_preset(name: Any) -> None:
    with pytest.raises(ValueError, match="preset must be one of exact, efficient, minimal, got"):
        LASConfig.preset(name)


def test_titles_say_what_matters_most() -> None:
    assert LASConfig().in_words == "T = 16, 15 levels, nearest"
    assert LASConfig(fewer_stages=True).in_words == "T = 16, 15 levels, nearest, fewer stages"
    own = LASConfig(levels=1, site_codes=(SiteCode("head", 63),)).in_words
    assert own == "T = 16, 1 levels (but for 1 populations with codes of their own), nearest"


def test_public_names() -> None:
    assert all(hasattr(las_sj, name) for name in las_sj.__all__)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_units_are_powers_of_two_in_half_precision_unless_said_otherwise(dtype: torch.dtype) -> None:
    assert LASConfig().settled(dtype).power_of_two_units is (dtype in (torch.float16, torch.bfloat16))
    for chosen in (True, False):
        assert LASConfig(power_of_two_units=chosen).settled(dtype).power_of_two_units is chosen
