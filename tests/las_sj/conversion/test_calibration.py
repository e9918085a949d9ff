"""Calibration: deterministic, without padding, with headroom, and clear about what it cannot use."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_models import (
    MODELS,
    Model,
    bert,
    calibration_batches,
    gpt2,
    llama,
    padding_mask,
    relative_error,
    run,
    token_ids,
)
from torch import Tensor
from transformers import (
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

import las_sj
from las_sj import Calibration, CalibrationError, LASConfig
from las_sj.conversion.calibration_data import generated_batches
from las_sj.conversion.structure import bypassed_coding
from las_sj.models import named_sites
from las_sj.neurons import HGNode, OATNode, ThresholdNode
from las_sj.neurons.seen_values import SeenValues

Settings = dict[str, tuple[float, ...]]


def settings_of(model: PreTrainedModel) -> Settings:
    """What calibration sets: thresholds, and ranges of HG neurons."""
    return {
        name: (site.node.low, site.node.high)
        if isinstance(site.node, HGNode)
        else tuple(float(parameter) for parameter in site.node.parameters())
        for name, site in named_sites(model)
    }


def converted(build: Callable[[], PreTrainedModel], batches: Any, **settings: Any) -> Settings:
    return settings_of(las_sj.convert(build(), LASConfig(**settings), batches))


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_deterministic(name: str) -> None:
    first, second = (converted(MODELS[name], calibration_batches()) for _ in range(2))
    assert first == second
    assert first != converted(MODELS[name], [{"input_ids": token_ids(seed=50)}])


@pytest.mark.parametrize("build", [gpt2, bert])
def test_generated_data(build: Callable[[], PreTrainedModel]) -> None:
    """Without data: the model's own text (or random tokens), the same in every run, by seed."""
    model = build()
    state = torch.get_rng_state()
    first, second, other = (generated_batches(model, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    for batch, again in zip(first, second, strict=True):
        assert torch.equal(batch["input_ids"], again["input_ids"])
    assert not torch.equal(first[0]["input_ids"], other[0]["input_ids"])
    assert first[0]["input_ids"].shape == (4, 64)  # the model has no more positions
    assert converted(build, None, seed=3) == converted(build, None, seed=3) != converted(build, None, seed=4)


def test_any_iterable_is_read_once() -> None:
    drawn: list[int] = []

    def batches() -> Any:
        for index, batch in enumerate(calibration_batches(3)):
            drawn.append(index)
            yield batch

    assert converted(gpt2, batches()) == converted(gpt2, calibration_batches(3))
    assert drawn == [0, 1, 2]


def of_tokens(settings: Settings) -> Settings:
    """Attention is left out: its neurons are per head, and see padding."""
    return {name: values for name, values in settings.items() if "las_attention" not in name}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("length", [10, 4, 8])  # 4: as many as heads
@pytest.mark.parametrize("build", [gpt2, llama])
def test_padding_is_excluded(build: Callable[[], Model], side: str, length: int) -> None:
    def loud_padding() -> Model:
        model = build()
        with torch.no_grad():
            model.get_input_embeddings().weight[99] *= 1000
        return model

    mask = padding_mask(side, max(length, 8))[:, :length] if side == "right" else padding_mask(side, length)
    mask[:, -1 if side == "left" else 0] = 1
    ids = token_ids(3, length) % 99
    padded = [torch.where(mask.bool(), ids, torch.full_like(ids, padding)) for padding in (5, 99)]
    quiet, loud = (
        of_tokens(converted(loud_padding, [{"input_ids": tokens, "attention_mask": mask}])) for tokens in padded
    )
    assert quiet.keys() == loud.keys()
    for name, values in quiet.items():
        assert loud[name] == pytest.approx(values, rel=1e-4), name
    unmasked = of_tokens(converted(loud_padding, [{"input_ids": padded[1]}]))
    assert max(unmasked[name][-1] / quiet[name][-1] for name in quiet) > 100


@pytest.mark.parametrize("headroom", [1.0, 1.5, 4.0])
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_ranges_cover_the_data(name: str, headroom: float) -> None:
    model = las_sj.convert(MODELS[name](), LASConfig(headroom=headroom), calibration_batches())
    las_sj.set_execution(model, "accumulated")
    seen: dict[str, float] = {}

    def watch(name: str) -> Callable[[Tensor], None]:
        def observe(v: Tensor) -> None:
            seen[name] = max(seen.get(name, 0.0), float(v.abs().max()))

        return observe

    sites = dict(named_sites(model))
    for site_name, site in sites.items():
        site.node.observer = watch(site_name)
    with bypassed_coding(model), torch.no_grad():
        for batch in calibration_batches():
            model(**batch)
    assert seen.keys() == sites.keys()
    coders = {name: site.node for name, site in sites.items() if not isinstance(site.node, HGNode)}
    for site_name, node in coders.items():
        limit = float(node.limit(torch.zeros(1)))
        bound = sites[site_name].upper_bound
        assert limit == pytest.approx(bound or seen[site_name] * headroom, rel=1e-5)
        assert float(next(node.parameters())) <= limit
    for site_name in sites.keys() - coders.keys():
        node = sites[site_name].node
        assert node.function.name == "exp" or seen[site_name] <= node.high


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_calibrated_data_is_in_range(name: str) -> None:
    model = las_sj.convert(MODELS[name](), LASConfig(headroom=1.25), calibration_batches())
    for batch in calibration_batches():
        run(model, "accumulated", **batch)
    assert {name: site.node.out_of_range for name, site in named_sites(model) if site.node.out_of_range} == {}
    loud = {"inputs_embeds": 50 * torch.randn(2, 8, 32, generator=torch.Generator().manual_seed(0))}
    run(model, "accumulated", **loud)
    assert any(site.node.out_of_range for _, site in named_sites(model))


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_float_inputs(name: str) -> None:
    """Calibration by inputs_embeds only."""
    ann = MODELS[name]()
    embedded = ann.get_input_embeddings()(token_ids()).detach()
    snn = las_sj.convert(MODELS[name](), None, [{"inputs_embeds": embedded}])
    with torch.no_grad():
        assert relative_error(run(snn, "temporal", input_ids=token_ids())[0], ann(token_ids())[0]) < 1e-3


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "calibration data is empty"),
        (iter(()), "calibration data is empty"),
        ([{"input_ids": token_ids(2, 0)}], "calibration data is empty"),
        ([{"input_ids": token_ids(0, 5)}], "calibration data is empty"),
        ([token_ids()], "must be dicts of the model's keyword arguments, got Tensor"),
    ],
)
def test_unusable_data(batches: Any, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        las_sj.convert(gpt2(), None, batches)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_broken_weights(name: str, bad: float) -> None:
    model = MODELS[name]()
    weight_name, weight = next(item for item in model.named_parameters() if "1" in item[0] and item[1].dim() == 2)
    weight.data[0, 0] = bad
    with pytest.raises(CalibrationError, match=f"weight {weight_name} has infinite or NaN values"):
        las_sj.convert(model, None, calibration_batches())


def test_activations_that_overflow() -> None:
    model = gpt2()
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.weight.fill_(3e38)
    with pytest.raises(CalibrationError, match=r"infinite or NaN at transformer\.h\.0\.mlp\.c_fc"):
        las_sj.convert(model, None, calibration_batches())


def test_activations_that_overflow_in_a_later_batch() -> None:
    """Token 99, which the first batch lacks, has values that float16 cannot hold with those of a position added."""
    model = bert().half()
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[99] = 6e4
        model.embeddings.position_embeddings.weight[11] = 6e4
    batches = [{"input_ids": token_ids() % 99}, {"input_ids": torch.full((1, 12), 99)}]
    with pytest.raises(CalibrationError, match=r"infinite or NaN activations at embeddings\.LayerNorm"):
        las_sj.convert(model, None, batches)


def test_context_manager_by_itself() -> None:
    """Calibrating again, on other data, as convert does."""
    model = las_sj.convert(gpt2(), None, calibration_batches())
    before = settings_of(model)
    with Calibration(model, LASConfig()):
        run(model, "accumulated", input_ids=token_ids(seed=50))
    assert settings_of(model) == converted(gpt2, [{"input_ids": token_ids(seed=50)}]) != before


def test_context_manager_without_a_call() -> None:
    model = las_sj.convert(gpt2(), None, calibration_batches())
    before = settings_of(model)
    with pytest.raises(CalibrationError, match="calibration data is empty"), Calibration(model, LASConfig()):
        pass
    assert settings_of(model) == before


def test_nothing_changes_where_a_call_fails() -> None:
    model = las_sj.convert(gpt2(), None, calibration_batches())
    before, expected = settings_of(model), run(model, "accumulated", input_ids=token_ids()).logits

    def fail() -> None:
        with Calibration(model, LASConfig()):
            run(model, "accumulated", input_ids=token_ids(seed=50))
            raise KeyError("broken off")

    with pytest.raises(KeyError):
        fail()
    assert settings_of(model) == before
    assert torch.equal(run(model, "accumulated", input_ids=token_ids()).logits, expected)
    assert not any(site.node.bypass or site.node.observer for _, site in named_sites(model))


def whisper() -> Any:
    sizes = {f"{side}_{what}": 1 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    tokens = {"vocab_size": 40, "decoder_start_token_id": 5, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}
    widths = {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "num_mel_bins": 8}
    places = {"max_source_positions": 10, "max_target_positions": 32}
    torch.manual_seed(0)
    return WhisperForConditionalGeneration(WhisperConfig(**sizes, **tokens, **widths, **places)).eval()


def test_generated_sound() -> None:
    model = whisper()
    first, second = (generated_batches(model, 0, batches=1)[0] for _ in range(2))
    assert first["input_features"].shape == (1, 8, 20)
    assert first["decoder_input_ids"][0, 0] == model.config.decoder_start_token_id
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_generated_text_of_a_decoder_after_an_encoder() -> None:
    config = T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0)
    torch.manual_seed(0)
    (batch,) = generated_batches(T5ForConditionalGeneration(config).eval(), 0, batches=1, length=8)
    assert batch["input_ids"].shape == (4, 8)
    assert batch["decoder_input_ids"][:, 0].tolist() == [0] * 4


@pytest.mark.parametrize(
    "settings", [{}, {"outlier_aware": False}, {"levels": 1}, {"power_of_two_units": True}], ids=str
)
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_a_coarse_last_step(name: str, settings: dict[str, Any]) -> None:
    """What feeds weights has steps of that share of the mean magnitude, or larger; all else is as it was."""
    share = 0.125
    plain, coarse = (
        las_sj.convert(MODELS[name](), LASConfig(**settings, last_step=step), calibration_batches())
        for step in (None, share)
    )
    seen = means_at_weights(MODELS[name](), LASConfig(**settings))
    for (site_name, site), (_, before) in zip(named_sites(coarse), named_sites(plain), strict=True):
        if not isinstance(site.node, ThresholdNode):
            continue
        thetas, earlier = ([float(theta) for theta in each.node.thresholds] for each in (site, before))
        if site.feeds != "weights":
            assert thetas == earlier, site_name
            continue
        steps = [theta * 2.0**-site.node.time_steps for theta in thetas]
        most = 2.0 if settings.get("power_of_two_units") else 1.0
        assert all(step >= 0.99 * share * seen[site_name] for step in steps), site_name
        assert steps[0] <= 1.01 * most * share * seen[site_name], site_name  # is coarser than least error on these
        assert all(after >= first for after, first in zip(thetas, earlier, strict=True))


def means_at_weights(ann: PreTrainedModel, config: LASConfig) -> dict[str, float]:
    """The mean magnitude that each population which feeds weights receives, by plain hooks on an uncoded run."""
    snn = las_sj.convert(ann, config, calibration_batches())
    las_sj.set_execution(snn, "accumulated")
    values: dict[str, list[Tensor]] = {}
    hooks = []
    for name, site in named_sites(snn):
        if site.feeds == "weights":
            given: list[Tensor] = values.setdefault(name, [])
            hooks.append(site.node.register_forward_pre_hook(lambda _, args, given=given: given.append(args[0].abs())))
    with torch.no_grad(), bypassed_coding(snn):
        for batch in calibration_batches():
            snn(**batch)
    for hook in hooks:
        hook.remove()
    return {name: float(torch.cat([each.reshape(-1) for each in given]).mean()) for name, given in values.items()}


def test_a_coarse_last_step_where_nothing_but_zeros_was_seen() -> None:
    node = OATNode(1.0, 1.0, 8)
    seen = SeenValues()
    seen.add(torch.zeros(3))
    node.calibrate(seen, 1.5)
    before = [float(theta) for theta in node.thresholds]
    node.coarsen(0.1 * seen.mean_magnitude)
    assert [float(theta) for theta in node.thresholds] == before
    assert SeenValues().mean_magnitude == 0.0
