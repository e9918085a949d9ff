"""Optimisations of small models: promises that are kept, and what becomes of the model."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import bert, calibration_batches, gpt2, llama, save, token_ids
from torch import Tensor
from transformers import AutoModelForCausalLM, BertForSequenceClassification

import las_sj
from las_sj.config import LASConfig
from las_sj.models import running
from las_sj.models.site_codes import SiteCode
from las_sj.optimisation.measurement import Measurement, measure
from las_sj.optimisation.optimise import optimize
from las_sj.optimisation.sensitivity import coding_sites
from las_sj.optimisation.unfinished import Finished, FinishedInFolder

CALIBRATION = calibration_batches(2)
CHECK = [{"input_ids": token_ids(4, 16, seed=7)}]
OTHER = [{"input_ids": token_ids(4, 16, seed=8)}]
LOSS = 0.002


def optimised(model: Any, steps: int = 8, **goal: Any) -> las_sj.Optimisation:
    return optimize(model, LASConfig(time_steps=steps), CALIBRATION, CHECK, **goal)


@pytest.fixture(scope="module")
def by_loss() -> tuple[Any, las_sj.Optimisation]:
    model = gpt2()
    return model, optimised(model, loss=LOSS, binary=True)


def test_a_loss_is_kept_for_less_energy(by_loss: tuple[Any, las_sj.Optimisation]) -> None:
    model, found = by_loss
    assert found.checked.loss <= LOSS
    again = measure(model, CHECK)
    assert again.loss == pytest.approx(found.checked.loss)
    assert again.ratios == pytest.approx(found.checked.ratios)
    plain = measure(las_sj.convert(gpt2(), LASConfig(time_steps=found.time_steps, levels=1), CALIBRATION), CHECK)
    finer = measure(las_sj.convert(gpt2(), LASConfig(time_steps=12, levels=1), CALIBRATION), CHECK)
    assert found.checked.ratios["level_aware"] < 0.9 * finer.ratios["level_aware"]
    assert found.checked.ratios["level_aware"] < plain.ratios["level_aware"] or found.checked.loss < plain.loss
    assert measure(model, OTHER).loss < 2 * LOSS  # on data that it was not even checked on


def test_the_prediction_is_near(by_loss: tuple[Any, las_sj.Optimisation]) -> None:
    _, found = by_loss
    assert found.plan.loss == pytest.approx(found.checked.loss, rel=1.0)
    assert found.predicted_ratio == pytest.approx(found.checked.ratios["level_aware"], rel=0.1)
    assert found.plan.gap < 0.05 * found.plan.pj


@torch.no_grad()
def test_both_executions_code_alike(by_loss: tuple[Any, las_sj.Optimisation]) -> None:
    model, found = by_loss
    batch = {"input_ids": token_ids(2, 8, seed=9)}
    with running(model, "accumulated"):
        accumulated = model(**batch).logits
    temporal = model(**batch).logits
    double = copy.deepcopy(model).double()
    with running(double, "accumulated"):
        exact = double(**batch).logits
    assert float((double(**batch).logits - exact).norm() / exact.norm()) < 1e-9
    # In single precision a sum that lies on the border of two steps may fall to either side of it.
    assert float((temporal - accumulated).norm() / accumulated.norm()) < 0.05
    assert found.time_steps == model.config.quantization_config.settings.time_steps


def test_it_is_deterministic(by_loss: tuple[Any, las_sj.Optimisation]) -> None:
    _, found = by_loss
    assert optimised(gpt2(), loss=LOSS, binary=True).to_dict() == found.to_dict()


def test_an_energy_is_kept_for_less_loss() -> None:
    dear, cheap = gpt2(), gpt2()
    much, little = optimised(dear, energy=0.6, binary=True), optimised(cheap, energy=0.5, binary=True)
    assert much.checked.ratios["level_aware"] <= 0.6
    assert little.checked.ratios["level_aware"] <= 0.5
    assert much.checked.loss < little.checked.loss


def test_paper_accounting_has_levels_and_survives_a_folder(tmp_path: Path) -> None:
    model = llama(vocab_size=512)
    found = optimised(model, steps=7, loss=LOSS, accounting="paper")
    codes = {(choice.code.levels, choice.code.max_spikes) for choice in found.plan.choices.values()}
    assert {levels for levels, _ in codes} <= {3, 7, 15}
    assert len(codes) > 1
    settings = model.config.quantization_config.settings
    assert settings.site_codes
    save(model, tmp_path)
    entry = json.loads((tmp_path / "config.json").read_text())["quantization_config"]["site_codes"]
    assert [settings.site_codes[0].site, settings.site_codes[0].levels, settings.site_codes[0].max_spikes] in entry
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    for name, site in coding_sites(loaded).items():
        assert site.node.code == coding_sites(model)[name].node.code, name
    assert torch.equal(loaded(**OTHER[0]).logits, model(**OTHER[0]).logits)


@torch.no_grad()
def test_hidden_states_have_a_relative_error() -> None:
    ann, model = bert(num_hidden_layers=1), bert(num_hidden_layers=1)
    found = optimised(model, loss=0.04, binary=True)
    assert 0.02 < found.checked.loss <= 0.04
    assert found.predicted_loss == pytest.approx(found.checked.loss, rel=0.5)
    exact, coded = ann(**CHECK[0]), model(**CHECK[0])
    error = coded.last_hidden_state - exact.last_hidden_state
    assert float(error.norm() / exact.last_hidden_state.norm()) == pytest.approx(found.checked.loss, rel=0.02)
    # The pooler does not move the first output, and keeps its code.
    pooled = coded.pooler_output - exact.pooler_output
    assert float(pooled.norm() / exact.pooler_output.norm()) < 0.2
    assert "pooler.dense.input_node" not in found.plan.choices


def test_losses_of_hidden_states_are_no_squares() -> None:
    found = optimised(bert(num_hidden_layers=1), steps=6, energy=0.6, binary=True)
    assert found.steps_tried[found.time_steps] == pytest.approx(found.rounds[0][0])


def test_binary_spikes() -> None:
    model = gpt2()
    found = optimised(model, steps=6, loss=0.02, accounting="paper", binary=True)
    assert {choice.code.levels for choice in found.plan.choices.values()} == {1}
    assert found.checked.loss <= 0.02


def test_short_forms_and_single_thresholds() -> None:
    for config in (LASConfig(time_steps=8, fewer_stages=True), LASConfig(time_steps=8, outlier_aware=False)):
        model = gpt2(n_layer=1)
        found = optimize(model, config, CALIBRATION, CHECK, loss=0.02, binary=True)
        assert measure(model, CHECK).loss == pytest.approx(found.checked.loss)
        assert found.checked.loss <= 0.02
        settings = model.config.quantization_config.settings
        assert (settings.fewer_stages, settings.outlier_aware) == (config.fewer_stages, config.outlier_aware)


def test_a_loss_out_of_reach_leaves_the_model(capfd: pytest.CaptureFixture[str]) -> None:
    model = gpt2()
    before, kind = model(**OTHER[0]).logits, type(model.transformer.h[0].ln_1)
    with pytest.raises(las_sj.OptimisationError, match="out of reach with 4 time steps: allow more, or levels"):
        optimised(model, steps=4, loss=1e-7, binary=True)
    assert type(model.transformer.h[0].ln_1) is kind
    assert torch.equal(model(**OTHER[0]).logits, before)


@pytest.mark.parametrize(
    ("settings", "goal", "message"),
    [
        ({}, {}, "a loss or an energy"),
        ({}, {"loss": 0.1, "energy": 0.4}, "a loss or an energy"),
        ({}, {"loss": -1.0}, "loss must be a positive number"),
        ({}, {"energy": True}, "energy must be a positive number"),
        ({}, {"loss": 0.1, "accounting": "joules"}, "accounting must be one of"),
        ({"max_spikes": 2}, {"loss": 0.1}, "chosen by the optimisation"),
        ({"levels": 7}, {"loss": 0.1}, "levels, max_spikes, last_step, site_codes are chosen by the optimisation"),
    ],
)
def test_goals_that_are_none(settings: dict[str, Any], goal: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, las_sj.OptimisationError), match=message):
        optimize(gpt2(), LASConfig(**settings), CALIBRATION, CHECK, **goal)


def test_targets_are_left_out(by_loss: tuple[Any, las_sj.Optimisation]) -> None:
    """With them the first output would be a loss."""
    _, found = by_loss
    given = [[batch | {"labels": batch["input_ids"]} for batch in batches] for batches in (CALIBRATION, CHECK)]
    assert optimize(gpt2(), LASConfig(time_steps=8), *given, loss=LOSS, binary=True).to_dict() == found.to_dict()


def test_single_tokens() -> None:
    """They predict nothing that is known, but what they predict is compared."""
    single = {"input_ids": token_ids(1, 1)}
    given = [*CALIBRATION, single], [single]
    found = optimize(gpt2(n_layer=1), LASConfig(time_steps=8), *given, loss=LOSS, binary=True)
    assert (found.checked.perplexity_change, found.checked.predictions) == (None, 1)
    assert 0 < found.checked.loss <= LOSS


def test_batches_of_padding_alone() -> None:
    classifier = bert(BertForSequenceClassification, num_hidden_layers=1, num_labels=3)
    padding = {"input_ids": token_ids(2, 4), "attention_mask": torch.zeros(2, 4, dtype=torch.int64)}
    with pytest.raises(las_sj.OptimisationError, match="batch 2 for the check is all padding: leave it out"):
        optimize(classifier, None, CALIBRATION, [*CHECK, padding], loss=0.1)
    with pytest.raises(las_sj.OptimisationError, match="batch 1 for calibration is all padding"):
        optimize(classifier, None, [padding], CHECK, loss=0.1)


def test_spikes_of_populations_without_choices_count() -> None:
    """No value moves the output of a head of zeros, so that all populations keep their code."""
    for goal in ({"loss": LOSS}, {"energy": 0.6}):
        model = llama(num_hidden_layers=1)
        torch.nn.init.zeros_(model.lm_head.weight)
        found = optimised(model, binary=True, **goal)
        assert not found.plan.choices
        assert found.predicted_ratio == pytest.approx(found.checked.ratios["level_aware"], rel=0.1)


def test_no_data() -> None:
    with pytest.raises(las_sj.OptimisationError, match="no data to check on"):
        optimize(gpt2(), None, CALIBRATION, [], loss=0.1)
    with pytest.raises(las_sj.CalibrationError, match="empty"):
        optimize(gpt2(), None, [], CHECK, loss=0.1)
    converted = las_sj.convert(gpt2(), LASConfig(time_steps=4), CALIBRATION)
    with pytest.raises(las_sj.OptimisationError, match="converted already"):
        optimize(converted, None, CALIBRATION, CHECK, loss=0.1)


class _CutOff(FinishedInFolder):
    """Interrupted after the first measurement."""

    def measurement(self, key: str, measure: Any) -> Measurement:
        found = super().measurement(key, measure)
        if len(self.measurements) == 1:
            raise KeyboardInterrupt
        return found


def test_an_interrupted_one_goes_on(tmp_path: Path, by_loss: tuple[Any, las_sj.Optimisation]) -> None:
    cut = _CutOff(tmp_path / "kept", {"a": 1})
    model = gpt2()
    before = model(**OTHER[0]).logits
    with pytest.raises(KeyboardInterrupt):
        optimize(model, LASConfig(time_steps=8), CALIBRATION, CHECK, loss=LOSS, binary=True, finished=cut)
    assert torch.equal(model(**OTHER[0]).logits, before)
    cut.close()
    with pytest.raises(las_sj.OptimisationError, match="other a: --restart begins anew"):
        FinishedInFolder(tmp_path / "kept", {"a": 2})
    kept = FinishedInFolder(tmp_path / "kept", {"a": 1})
    assert len(kept.measurements) == 1
    found = optimize(model, LASConfig(time_steps=8), CALIBRATION, CHECK, loss=LOSS, binary=True, finished=kept)
    assert found.to_dict() == by_loss[1].to_dict()
    kept.remove()
    kept.close()
    assert not (tmp_path / "kept").exists()


def test_a_damaged_folder_is_one_line(tmp_path: Path) -> None:
    kept = FinishedInFolder(tmp_path / "kept", {})
    (tmp_path / "kept" / "statistics.safetensors").write_bytes(b"no")
    with pytest.raises(las_sj.OptimisationError, match=r"damaged .*--restart begins anew"):
        optimize(gpt2(), LASConfig(time_steps=4), CALIBRATION, CHECK, loss=LOSS, finished=kept)
    with pytest.raises(las_sj.OptimisationError, match="another optimisation is running"):
        FinishedInFolder(tmp_path / "kept", {})
    kept.close()
    anew = FinishedInFolder(tmp_path / "kept", {}, restart=True)
    assert not anew.has_something
    anew.close()


def test_codes_of_their_own() -> None:
    model = las_sj.convert(gpt2(), LASConfig(time_steps=8), CALIBRATION)
    name = next(iter(coding_sites(model)))
    own = las_sj.convert(gpt2(), LASConfig(time_steps=8, site_codes=(SiteCode(name, 3, 2),)), CALIBRATION)
    nodes = {site: found.node.code for site, found in coding_sites(own).items()}
    assert (nodes[name].levels, nodes[name].max_spikes) == (3, 2)
    assert {code.levels for site, code in nodes.items() if site != name} == {15}
    with pytest.raises(las_sj.UnsupportedModelError, match=r"site_codes name head\.x"):
        las_sj.convert(gpt2(), LASConfig(site_codes=(SiteCode("head.x", 3),)), CALIBRATION)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (5, "must be a list"),
        ([["a", 1]], r"must hold \[site, levels, max_spikes, channels\]"),
        ([["a", 200, None]], "site_codes of a: levels must be"),
        ([["a", 1, 0]], "site_codes of a: max_spikes"),
        ([[3, 1, 0]], "must name populations"),
        ([["a", 1, 2], ["a", 3, None]], "each population once"),
    ],
)
def test_codes_that_are_none(codes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LASConfig.from_dict({"site_codes": codes})


def test_results_are_plain_values(by_loss: tuple[Any, las_sj.Optimisation]) -> None:
    _, found = by_loss
    assert Measurement.from_dict(json.loads(json.dumps(found.checked.to_dict()))) == found.checked
    assert not any(isinstance(value, Tensor) for value in found.to_dict().values())


class Jumping(Finished):
    """Data of a check on which a loss jumps where a plan's passes a border."""

    border = LOSS / 5

    def measurement(self, key: str, measure: Callable[[], Measurement]) -> Measurement:
        planned = float(key.split()[1])
        return replace(super().measurement(key, measure), loss=LOSS / 10 if planned <= self.border else 3 * LOSS)


def test_rounds_close_in_on_a_jump() -> None:
    """In proportion to what is reached they would swing between both sides of it."""
    found = optimize(gpt2(), LASConfig(time_steps=8), CALIBRATION, CHECK, loss=LOSS, binary=True, finished=Jumping())
    assert found.checked.loss == LOSS / 10
    assert 0.7 * Jumping.border < found.plan.loss <= Jumping.border
