"""Step 3 of FAS: what is calibrated comes nearer to the ANN, and nothing else changes."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rate_coded_models import CACHE, convert_rates, opt
from tiny_models import VOCABULARY, Model, bert, gpt2, padding_mask, run, token_ids
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BertForSequenceClassification,
)

import las_sj
from las_sj.models.rate_coded.network import named_activations
from las_sj.neurons.rate_coded import CalibratedIFNode
from las_sj.training.alignment import aligned, evaluating
from las_sj.training.coarse import UNCHANGED, coarse_calibrate
from las_sj.training.fine import FineSettings, divergence, fine_calibrate

BATCHES = [{"input_ids": token_ids(2, 12, seed)} for seed in range(4)]
GRID = ((0.7, 0.9, 1.1), (0.4, 0.6))  # of α and β
PADDED = [{"input_ids": token_ids(seed=seed), "attention_mask": padding_mask("right")} for seed in range(4)]


def errors_of(model: Model, batches: list[dict[str, Tensor]]) -> dict[str, float]:
    """E of each site, mean over batches."""
    with torch.no_grad(), evaluating(model):
        found = [aligned(model, batch).errors() for batch in batches]
    return {name: sum(float(errors[name]) for errors in found) / len(found) for name in found[0]}


def test_the_coarse_search_never_makes_a_site_worse() -> None:
    """Property 25: given what the sites before it have become."""
    snn = convert_rates(gpt2().double(), time_steps=4)
    uncalibrated = errors_of(snn, BATCHES[:2])
    choices = coarse_calibrate(snn, BATCHES[:2], *GRID)
    assert [choice.site for choice in choices] == list(uncalibrated)
    assert all(choice.after <= choice.before for choice in choices)
    assert any(choice.after < choice.before for choice in choices)
    first, last = choices[0], choices[-1]
    assert first.before == pytest.approx(uncalibrated[first.site])
    after = errors_of(snn, BATCHES[:2])
    assert after[first.site] == pytest.approx(first.after)
    assert after[last.site] == pytest.approx(last.after)


def test_a_search_for_each_channel_is_at_least_as_good() -> None:
    """On the first site, whose inputs are the same whatever is chosen."""
    networks = [convert_rates(gpt2().double(), time_steps=3) for _ in range(2)]
    first, of_channels = (
        coarse_calibrate(snn, BATCHES[:2], *GRID, per_channel=per_channel)[0]
        for snn, per_channel in zip(networks, (False, True), strict=True)
    )
    assert of_channels.before == pytest.approx(first.before)
    assert of_channels.after < first.after
    site = dict(named_activations(networks[1]))[first.site]
    assert site.node.theta.shape == site.node.beta.shape == (128,)
    assert errors_of(networks[1], BATCHES[:2])[first.site] == pytest.approx(of_channels.after)
    assert len(site.node.theta.unique()) > 1


def test_the_coarse_search_keeps_what_nothing_improves() -> None:
    """With T = L under a constant current the first site is exact already."""
    snn = convert_rates(gpt2().double(), levels=8, time_steps=8)
    first, *_ = coarse_calibrate(snn, BATCHES[:2], *GRID)
    assert (first.alpha, first.beta) == UNCHANGED
    assert first.after == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("granularity", ["site", "channel", "position"])
def test_fine_calibration_brings_trains_to_the_ann(granularity: str) -> None:
    """Property 23: errors fall on what is calibrated on; weights and θ stay bit for bit."""
    snn = convert_rates(gpt2(), time_steps=4)
    before = {name: value.clone() for name, value in snn.state_dict().items()}
    uncalibrated = errors_of(snn, BATCHES)
    positions = 16 if granularity == "position" else None
    settings = FineSettings(steps=20, kl_weight=0.0, granularity=granularity, positions=positions, check_every=10)
    accumulated = run(snn, "accumulated", **BATCHES[0])[0]
    result = fine_calibrate(snn, BATCHES, BATCHES, settings)
    assert result.best_step > 0
    assert sum(errors_of(snn, BATCHES).values()) < sum(uncalibrated.values())
    for name, value in snn.state_dict().items():
        old = before.get(name.replace(".quantizer.", ".node.") if ".quantizer." in name else name)
        if ".node." not in name:
            assert old is not None
            assert torch.equal(value, old)
    assert torch.equal(run(snn, "accumulated", **BATCHES[0])[0], accumulated)
    shapes = {"site": (), "channel": (128,), "position": (16, 128)}
    assert all(site.node.theta.shape == shapes[granularity] for _, site in named_activations(snn))


def test_the_logits_loss_brings_outputs_to_the_ann() -> None:
    snn = convert_rates(bert(BertForSequenceClassification, num_labels=3), time_steps=3)

    def kl() -> float:
        with torch.no_grad():
            seen = [aligned(snn, batch) for batch in PADDED]
        return sum(float(divergence(each.ann_output, each.snn_output, None, True)) for each in seen)

    before = kl()
    result = fine_calibrate(snn, PADDED, PADDED, FineSettings(steps=20, alignment_weight=0.0, check_every=10))
    assert result.best_step > 0
    assert kl() < before


def test_what_does_not_help_is_not_kept() -> None:
    """Far too large steps are worse than where they begin: step 0 is kept, which is the network before."""
    snn = convert_rates(gpt2(), time_steps=4)
    before = run(snn, "temporal", **BATCHES[0])[0]
    result = fine_calibrate(snn, BATCHES, BATCHES, FineSettings(steps=4, learning_rate=50.0, check_every=2))
    assert result.best_step == 0
    torch.testing.assert_close(run(snn, "temporal", **BATCHES[0])[0], before)


def test_calibration_leaves_modes_gradients_and_executions_alone() -> None:
    snn = convert_rates(gpt2(attn_pdrop=0.5, resid_pdrop=0.5), time_steps=2)
    snn.train()
    las_sj.set_execution(snn, "accumulated")
    coarse_calibrate(snn, BATCHES[:1], *GRID)
    first = fine_calibrate(snn, BATCHES, BATCHES, FineSettings(steps=3))
    assert snn.training
    assert snn.transformer.h[0].mlp.dropout.training
    assert snn.las_execution.name == "accumulated"
    assert all(parameter.grad is None for parameter in snn.parameters())
    again = convert_rates(gpt2(attn_pdrop=0.5, resid_pdrop=0.5), time_steps=2)
    coarse_calibrate(again, BATCHES[:1], *GRID)
    assert fine_calibrate(again, BATCHES, BATCHES, FineSettings(steps=3)) == first  # no dropout, one seed


def test_a_calibrated_network_is_saved_loaded_and_converted_again(tmp_path: Path) -> None:
    """Property 23: Θ and β bit for bit; converting again takes the ANN's θ, not Θ."""
    snn = convert_rates(gpt2(), time_steps=4)
    theta = {name: site.theta.detach().clone() for name, site in named_activations(snn)}
    fine_calibrate(snn, BATCHES, BATCHES, FineSettings(steps=5))
    snn.save_pretrained(tmp_path)
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    for name, value in snn.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    assert loaded.config.quantization_config.settings.granularity == "channel"
    assert torch.equal(run(loaded, "temporal", **BATCHES[0])[0], run(snn, "temporal", **BATCHES[0])[0])
    loaded.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()
    back = las_sj.convert(copy.deepcopy(loaded), las_sj.FASConfig(method="qcfs"), BATCHES)
    for name, site in named_activations(back):
        assert torch.equal(site.theta.detach(), theta[name])
        assert not isinstance(site.node, CalibratedIFNode)


@pytest.mark.parametrize("granularity", ["site", "channel", "position"])
def test_converting_again_keeps_what_fas_has_calibrated(granularity: str, tmp_path: Path) -> None:
    """Property 23: Θ, β and θ bit for bit, at any T; the config says what there is, not what is asked for."""
    positions = 16 if granularity == "position" else None
    snn = convert_rates(gpt2(n_layer=1), time_steps=4, granularity=granularity, positions=positions)
    fine_calibrate(snn, BATCHES, BATCHES, FineSettings(steps=2, check_every=1))
    settings = snn.config.quantization_config.settings
    assert (settings.granularity, settings.positions) == (granularity, positions)
    wanted = {name: value.clone() for name, value in snn.state_dict().items()}
    assert any(name.endswith("node.beta") for name in wanted)
    expected = run(snn, "temporal", **BATCHES[0])[0]
    las_sj.convert(snn, settings, BATCHES)
    assert torch.equal(run(snn, "temporal", **BATCHES[0])[0], expected)
    snn.save_pretrained(tmp_path)
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    las_sj.convert(loaded, las_sj.FASConfig(time_steps=8), BATCHES)
    assert loaded.state_dict().keys() == wanted.keys()
    assert all(torch.equal(value, wanted[name]) for name, value in loaded.state_dict().items())
    kept = loaded.config.quantization_config.settings
    assert (kept.time_steps, kept.granularity, kept.positions) == (8, granularity, positions)
    las_sj.convert(loaded, las_sj.FASConfig(), BATCHES)
    assert torch.equal(run(loaded, "temporal", **BATCHES[0])[0], expected)


def test_a_failed_conversion_leaves_a_calibrated_network_as_it_was() -> None:
    snn = convert_rates(gpt2(n_layer=1), time_steps=4)
    coarse_calibrate(snn, BATCHES[:1], *GRID, per_channel=True)
    expected = run(snn, "temporal", **BATCHES[0])[0]
    with pytest.raises(las_sj.CalibrationError, match="empty"):
        las_sj.convert(snn, las_sj.FASConfig(), [{}])
    assert torch.equal(run(snn, "temporal", **BATCHES[0])[0], expected)


def test_the_config_says_what_a_coarse_search_was_for(tmp_path: Path) -> None:
    """And what was asked for at conversion is calibrated finely all the same."""
    snn = convert_rates(gpt2(n_layer=1), time_steps=4, granularity="position", positions=16)
    for per_channel, granularity in ((False, "site"), (True, "channel")):
        coarse_calibrate(snn, BATCHES[:1], *GRID, per_channel=per_channel)
        snn.save_pretrained(tmp_path)
        stored = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["quantization_config"]
        assert (stored["granularity"], stored["positions"]) == (granularity, None)
    fine_calibrate(snn, BATCHES, BATCHES, FineSettings(steps=0))
    assert all(site.node.theta.shape == (16, 128) for _, site in named_activations(snn))
    assert snn.config.quantization_config.settings.positions == 16
    with pytest.raises(ValueError, match="calibrated more finely already"):
        fine_calibrate(snn, BATCHES, BATCHES, FineSettings(steps=0, granularity="channel"))


@pytest.mark.parametrize("method", ["qcfs", "srp", "cos"])
def test_other_methods_have_no_calibration(method: str) -> None:
    snn = convert_rates(gpt2(n_layer=1), method=method)
    with pytest.raises(ValueError, match=f"one of {method}, which has no calibration"):
        coarse_calibrate(snn, BATCHES)
    with pytest.raises(ValueError, match=f"one of {method}, which has no calibration"):
        fine_calibrate(snn, BATCHES, BATCHES)


def test_without_a_head_hidden_states_are_compared_as_they_are() -> None:
    """They are no logits, of which a softmax would be a distribution."""
    snn = convert_rates(bert(n_layer=1), time_steps=3)
    settings = FineSettings(steps=1, alignment_weight=0.0, check_every=1)
    start = fine_calibrate(snn, BATCHES[:1], BATCHES[:1], settings).held_out[0][1]
    snn = convert_rates(bert(n_layer=1), time_steps=3)
    spiking, ann = (run(snn, execution, **BATCHES[0])[0] for execution in ("temporal", "accumulated"))
    assert start == pytest.approx(float((spiking - ann).square().mean()), rel=1e-5)


def test_tokens_of_opt_have_padding_and_positions() -> None:
    """Its activations see all tokens in one row, [B·S, C]."""
    snn = convert_rates(opt().double(), time_steps=3)
    mask = padding_mask("right").bool()
    ids = token_ids()
    errors = []
    for tokens in (ids, torch.where(mask, ids, ids.new_full((), VOCABULARY - 1))):
        seen = aligned(snn, {"input_ids": tokens, "attention_mask": mask.long()})
        errors.append({name: float(error.detach()) for name, error in seen.errors(mask).items()})
    first = next(iter(errors[0]))
    assert errors[0] == pytest.approx(errors[1])
    assert errors[0][first] != pytest.approx(float(seen.errors()[first].detach()))
    settings = FineSettings(steps=2, granularity="position", positions=32, check_every=1)
    fine_calibrate(snn, PADDED, PADDED, settings)
    generator = torch.Generator().manual_seed(0)
    for _, site in named_activations(snn):
        assert site.node.theta.shape == (32, 64)
        with torch.no_grad():
            site.node.theta.mul_(0.5 + torch.rand(32, 64, generator=generator))
    whole = run(snn, "temporal", input_ids=ids)[0]
    for row in range(len(ids)):
        torch.testing.assert_close(run(snn, "temporal", input_ids=ids[row : row + 1])[0], whole[row : row + 1])
    found = run(snn, "temporal", input_ids=ids[:, :6], use_cache=True)
    rest = run(snn, "temporal", input_ids=ids[:, 6:], **{CACHE: found[CACHE]})
    torch.testing.assert_close(torch.cat([found.logits, rest.logits], 1), whole)
    with pytest.raises(ValueError, match="thresholds for 32 positions"):
        run(snn, "temporal", input_ids=token_ids(2, 40))


def test_padding_takes_no_part_in_errors() -> None:
    snn = convert_rates(bert(BertForSequenceClassification, num_labels=3), time_steps=3)
    mask = padding_mask("right").bool()
    ids = token_ids()
    changed = torch.where(mask, ids, ids.new_full((), VOCABULARY - 1))
    found = []
    for tokens in (ids, changed):
        seen = aligned(snn, {"input_ids": tokens, "attention_mask": mask.long()})
        found.append([float(error.detach()) for error in seen.errors(mask).values()])
    assert found[0] == pytest.approx(found[1])


def test_kl_is_a_mean_over_tokens_or_a_sum() -> None:
    ann, snn = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    p, q = ann.softmax(-1), snn.softmax(-1)
    each = (p * (p / q).log()).sum(-1)[mask]
    assert float(divergence(ann, snn, mask, True)) == pytest.approx(float(each.mean()), rel=1e-5)
    assert float(divergence(ann, snn, mask, False)) == pytest.approx(float(each.sum()) / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": -1}, "steps must be an integer >= 0"),
        ({"check_every": 0}, "check_every must be an integer >= 1"),
        ({"alignment_weight": 0.0, "kl_weight": 0.0}, "both 0"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"kl_weight": -1.0}, "kl_weight"),
        ({"granularity": "token"}, "granularity"),
        ({"granularity": "position"}, "positions"),
        ({"positions": 3}, "positions"),
    ],
    ids=str,
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FineSettings(**settings)


def test_no_data_is_an_error() -> None:
    snn = convert_rates(gpt2())
    with pytest.raises(ValueError, match="batch"):
        coarse_calibrate(snn, [])
    with pytest.raises(ValueError, match="batches"):
        fine_calibrate(snn, BATCHES, [])
    with pytest.raises(ValueError, match="alphas"):
        coarse_calibrate(snn, BATCHES, alphas=[0.0])
