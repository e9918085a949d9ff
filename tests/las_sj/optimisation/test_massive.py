"""Channels of massive activations: thresholds of their own, where time steps are few."""

import copy
import json
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import calibration_batches, llama, relative_error, run, save, token_ids
from transformers import AutoModelForCausalLM

import las_sj
from las_sj.config import LASConfig
from las_sj.models.site_codes import SiteCode
from las_sj.neurons import MultiThresholdCode
from las_sj.optimisation.choices import Choice, choices_for, lower_hull, together
from las_sj.optimisation.optimise import optimize
from las_sj.optimisation.sensitivity import Sensitivity, coding_sites, gather, massive_channels
from las_sj.optimisation.statistics import Statistics

CALIBRATION = calibration_batches(2)
CHECK = [{"input_ids": token_ids(4, 16, seed=7)}]
STEPS, LOSS = 4, 0.01
CHANNELS = (3, 11)
CENTRED = "model.layers.0.input_layernorm.centred_node"


def massive() -> Any:
    """A Llama of which two channels of the residual stream are far larger than all others, as in trained ones."""
    model = llama(num_hidden_layers=1)
    with torch.no_grad():
        model.model.embed_tokens.weight[:, list(CHANNELS)] *= 400
        model.model.layers[0].input_layernorm.weight[list(CHANNELS)] *= 0.01
    return model


def optimised(model: Any, steps: int = STEPS) -> las_sj.Optimisation:
    return optimize(model, LASConfig(time_steps=steps), CALIBRATION, CHECK, loss=LOSS)


@pytest.fixture(scope="module")
def found() -> tuple[Any, las_sj.Optimisation]:
    model = massive()
    return model, optimised(model)


def test_massive_channels_are_told_apart() -> None:
    v = torch.ones(2, 3, 8)
    v[0, 1, 5] = -17.0
    assert massive_channels(v).nonzero().flatten().tolist() == [5]
    assert not massive_channels(torch.ones(4, 8)).any()


def test_channels_of_zeros_make_no_others_massive() -> None:
    v = torch.cat([torch.zeros(5, 5), torch.ones(5, 3)], 1)
    assert not massive_channels(v).any()
    v[2, 7] = 17.0
    assert massive_channels(v).nonzero().flatten().tolist() == [7]
    assert not massive_channels(torch.zeros(5, 3)).any()


def test_statistics_of_both_parts_are_those_of_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, 5, 8, generator=generator) * torch.tensor([1, 1, 300, 1, 1, 1, 1, 1])
    squares = torch.rand(2, 5, 8, generator=generator)
    apart, whole = Sensitivity.empty(), Sensitivity.empty()
    for v, square in zip(values, squares, strict=True):
        apart.add(v, square, 8)
        whole.add(v, square)
    assert apart.massive is not None
    assert apart.massive.channels.nonzero().flatten().tolist() == [2]
    assert int(apart.massive.seen.counts.sum()) == 10
    assert apart.largest < 10 < apart.massive.seen.largest
    assert torch.equal(apart.whole.counts, whole.counts)
    torch.testing.assert_close(apart.whole.weights, whole.weights)
    assert apart.whole.largest == whole.largest
    assert whole.massive is None
    assert whole.whole is whole


PAIRS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=6)


@given(PAIRS, PAIRS)
def test_hulls_of_both_parts_together(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    """No mixture of any two choices beats them."""
    code = MultiThresholdCode(8)
    parts = [
        [Choice(code, float(k), float(k), float(loss), 1.0, float(pj)) for k, (loss, pj) in enumerate(pairs, 1)]
        for pairs in (first, second)
    ]
    sums = [Choice(code, 1.0, 1.0, a.loss + b.loss, 2.0, a.pj + b.pj) for a in parts[0] for b in parts[1]]
    channels = torch.tensor([True, False])
    found = lower_hull(together(*map(lower_hull, parts), channels))
    assert [(each.loss, each.pj) for each in found] == [(each.loss, each.pj) for each in lower_hull(sums)]
    assert all(each.massive is not None and each.massive.channels is channels for each in found)


def test_a_network_with_thresholds_of_their_own(found: tuple[Any, las_sj.Optimisation]) -> None:
    model, optimisation = found
    assert optimisation.time_steps == STEPS
    assert optimisation.checked.loss <= LOSS
    massive = optimisation.plan.choices[CENTRED].massive
    assert massive is not None
    entry = {"channels": 2, "theta_normal": massive.normal, "theta_outlier": massive.outlier}
    assert optimisation.to_dict()["sites"][CENTRED]["massive"] == entry
    (row,) = (line for line in optimisation.to_markdown().splitlines() if f"| {CENTRED} |" in line)
    assert row.split(" | ")[5] == "2"
    node = coding_sites(model)[CENTRED].node
    assert all(theta.shape == (model.config.hidden_size,) for theta in node.thresholds)
    outlier = node.thresholds[1]
    assert len({*outlier.tolist()}) == 2
    assert {*torch.nonzero(outlier > outlier.min()).flatten().tolist()} == {*CHANNELS}


def test_few_steps_lose_less_with_thresholds_of_their_own() -> None:
    model = las_sj.convert(massive(), LASConfig(time_steps=STEPS, levels=1), CALIBRATION)
    seen, site = gather(model, CALIBRATION).sites[CENTRED], coding_sites(model)[CENTRED]
    codes = [MultiThresholdCode(STEPS, 15)]
    apart, whole = (choices_for(CENTRED, site, each, float, codes, 1.5)[-1].loss for each in (seen, seen.whole))
    assert 0 < apart < 0.1 * whole


@torch.no_grad()
def test_both_executions_code_alike(found: tuple[Any, las_sj.Optimisation]) -> None:
    double = copy.deepcopy(found[0]).double()
    temporal, accumulated = (run(double, execution, **CHECK[0])[0] for execution in ("temporal", "accumulated"))
    assert relative_error(temporal, accumulated) < 1e-9


def test_they_survive_a_folder(found: tuple[Any, las_sj.Optimisation], tmp_path: Path) -> None:
    model, _ = found
    save(model, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(run(loaded, "temporal", **CHECK[0])[0], run(model, "temporal", **CHECK[0])[0])
    config = json.loads((tmp_path / "config.json").read_text())
    codes = config["quantization_config"]["site_codes"]
    (entry,) = (code for code in codes if code[0] == CENTRED)
    assert entry[3] == model.config.hidden_size
    for channels, message in ((7, "no population with such a code"), (-1, "channels must lie in")):
        entry[3] = channels
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises((ValueError, RuntimeError), match=message):
            AutoModelForCausalLM.from_pretrained(tmp_path)


def test_statistics_survive_a_file(tmp_path: Path) -> None:
    model = las_sj.convert(massive(), LASConfig(time_steps=8, levels=1), CALIBRATION)
    search = gather(model, CALIBRATION)
    apart = {name: seen for name, seen in search.sites.items() if seen.massive is not None}
    assert CENTRED in apart
    budget = las_sj.optimisation.budget.EnergyBudget([], {})
    Statistics(search, budget).save(tmp_path / "statistics")
    loaded = Statistics.load(tmp_path / "statistics").sensitivities
    assert {name for name, seen in loaded.sites.items() if seen.massive is not None} == {*apart}
    for name, seen in apart.items():
        again = loaded.sites[name].massive
        assert seen.massive is not None
        assert again is not None
        assert torch.equal(again.channels, seen.massive.channels)
        assert torch.equal(again.seen.weights, seen.massive.seen.weights)
        assert again.seen.largest == seen.massive.seen.largest


def test_channels_of_a_population_that_has_others() -> None:
    with pytest.raises(las_sj.UnsupportedModelError, match=f"site_codes name {CENTRED}"):
        las_sj.convert(massive(), LASConfig(site_codes=(SiteCode(CENTRED, 3, None, 7),)), CALIBRATION)
    own = las_sj.convert(massive(), LASConfig(site_codes=(SiteCode(CENTRED, 3, None, 32),)), CALIBRATION)
    assert reduce(lambda total, theta: total + len(theta), coding_sites(own)[CENTRED].node.thresholds, 0) == 64


@pytest.mark.parametrize("channels", [0, -3, 1 << 25, 2.0, "8", True])
def test_no_number_of_channels(channels: Any) -> None:
    with pytest.raises(ValueError, match="site_codes of a: channels must lie in"):
        SiteCode("a", 3, None, channels)
