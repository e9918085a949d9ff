"""Networks of rate codes: their temporal calls are a plain simulation, step by step; accumulated ones the ANN."""

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from rate_coded_models import CACHE, METHODS, convert_rates, opt, simulated
from tiny_models import Model, bert, calibration_batches, gpt2, llama, padding_mask, relative_error, run, token_ids
from torch import Tensor, nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertForMaskedLM,
    BertForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
)

import las_sj
from las_sj.models import execution_of
from las_sj.models.rate_coded.network import named_activations
from las_sj.neurons.rate_coded import CalibratedIFNode, QCFSQuantizer

KINDS: dict[str, Callable[[], Model]] = {
    "gpt2": gpt2,
    "bert": lambda: bert(BertForSequenceClassification, num_labels=3),
    "masked": lambda: bert(BertForMaskedLM),
    "llama": llama,
    "opt": opt,
}
SITES = {
    "gpt2": ["transformer.h.0.mlp.act", "transformer.h.1.mlp.act"],
    "bert": [*(f"bert.encoder.layer.{i}.intermediate.intermediate_act_fn" for i in range(2)), "bert.pooler.activation"],
    "masked": [
        *(f"bert.encoder.layer.{i}.intermediate.intermediate_act_fn" for i in range(2)),
        "cls.predictions.transform.transform_act_fn",
    ],
    "llama": ["model.layers.0.mlp.act_fn", "model.layers.1.mlp.act_fn"],
    "opt": ["model.decoder.layers.0.activation_fn", "model.decoder.layers.1.activation_fn"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_sites_are_the_activations_of_each_architecture(kind: str) -> None:
    snn = convert_rates(KINDS[kind]())
    assert [name for name, _ in named_activations(snn)] == SITES[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_spikes_go_to_the_layer_that_follows(kind: str) -> None:
    snn = convert_rates(KINDS[kind]())
    for _, activation in named_activations(snn):
        if kind == "llama":  # the product of the gate comes between
            assert (activation.fed, activation.feeds) == ("", "product")
        elif activation.fed:
            assert activation.consumer.fan_out == _outputs(snn.get_submodule(activation.fed))
            assert activation.feeds == "weights"
        else:
            assert kind == "masked"  # a norm comes between
            assert activation is snn.cls.predictions.transform.transform_act_fn


def _outputs(layer: nn.Module) -> int:
    return int(getattr(layer, "nf", None) or layer.out_features)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", [method for method in METHODS if method != "cos"])
def test_a_temporal_call_is_a_plain_simulation(kind: str, method: str) -> None:
    ann = KINDS[kind]().double()
    snn = convert_rates(ann, method=method, time_steps=5)
    lanes = execution_of(snn).lanes
    batch = {"input_ids": token_ids(), "attention_mask": padding_mask("right")}
    expected = simulated(ann, snn, lanes.count, lanes.before, **batch)
    found = run(snn, "temporal", **batch)[0]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_an_accumulated_call_is_the_quantised_ann(kind: str) -> None:
    ann = KINDS[kind]().double()
    snn = convert_rates(ann, levels=6)
    plain = copy.deepcopy(ann)
    for name, activation in named_activations(snn):
        quantizer = QCFSQuantizer(activation.theta.detach(), 6)
        plain.set_submodule(name, quantizer)
    batch = {"input_ids": token_ids(), "attention_mask": padding_mask("right")}
    with torch.no_grad():
        expected = plain(**batch)[0]
    torch.testing.assert_close(run(snn, "accumulated", **batch)[0], expected, rtol=1e-9, atol=1e-9)


def test_one_step_of_the_simulation_is_told_apart_from_another() -> None:
    """The comparison with the simulation would fail if lanes were read from another step on."""
    ann = gpt2().double()
    snn = convert_rates(ann, method="srp", time_steps=5)
    expected = simulated(ann, snn, 9, 0, input_ids=token_ids())
    assert relative_error(run(snn, "temporal", input_ids=token_ids())[0], expected) > 1e-3


def test_the_first_site_is_exact_where_steps_are_levels() -> None:
    """Property 20: with T = L, and only there."""
    snn = convert_rates(gpt2().double(), levels=8, time_steps=8)
    first = dict(named_activations(snn))[SITES["gpt2"][0]]
    exact, means = _of_site(snn, first)
    torch.testing.assert_close(means, exact, rtol=0, atol=1e-12)
    snn = convert_rates(gpt2().double(), levels=8, time_steps=4)
    first = dict(named_activations(snn))[SITES["gpt2"][0]]
    exact, means = _of_site(snn, first)
    bound = first.theta.item() * (1 / 8 + 1 / 16)
    assert 0 < float((means - exact).abs().max()) <= bound + 1e-12


def _of_site(snn: Model, site: Any) -> tuple[Tensor, Tensor]:
    kept: list[Tensor] = []
    handle = site.register_forward_hook(lambda module, args, output: kept.append(output))
    run(snn, "accumulated", input_ids=token_ids())
    run(snn, "temporal", input_ids=token_ids())
    handle.remove()
    return kept[0], execution_of(snn).split_time(kept[1]).mean(0)


def test_lanes_are_copies_in_the_order_of_time() -> None:
    """Property 21: what comes before the first site is the same in each lane."""
    snn = convert_rates(gpt2(), time_steps=3)
    kept: list[Tensor] = []
    snn.transformer.h[0].ln_1.register_forward_hook(lambda module, args, output: kept.append(output))
    run(snn, "accumulated", input_ids=token_ids())
    run(snn, "temporal", input_ids=token_ids())
    lanes = execution_of(snn).split_time(kept[1])
    assert lanes.shape == (3, *kept[0].shape)
    for lane in lanes:
        torch.testing.assert_close(lane, kept[0])


def test_a_linear_layer_after_a_site_sees_the_mean() -> None:
    """Property 22: its bias is not scaled by T."""
    snn = convert_rates(gpt2().double(), time_steps=4)
    mlp = snn.transformer.h[0].mlp
    kept: list[Tensor] = []
    for module in (mlp.act, mlp.c_proj):
        module.register_forward_hook(lambda module, args, output: kept.append(output))
    run(snn, "temporal", input_ids=token_ids())
    phi, out = (execution_of(snn).split_time(output).mean(0) for output in kept)
    torch.testing.assert_close(out, phi @ mlp.c_proj.weight + mlp.c_proj.bias)


@pytest.mark.parametrize(("method", "count", "presented"), [("fas", 4, 4), ("srp", 7, 7), ("cos", 4, 7)])
def test_steps_that_come_before_or_are_looked_ahead_at_are_counted(method: str, count: int, presented: int) -> None:
    steps = {} if method == "fas" else {"presimulation_steps": 3}
    lanes = execution_of(convert_rates(gpt2(n_layer=1), method=method, time_steps=4, **steps)).lanes
    assert (lanes.count, lanes.presented) == (count, presented)


def test_half_a_threshold_and_theta_are_the_neurons_of_qcfs() -> None:
    """Property 19."""
    qcfs = convert_rates(gpt2(), method="qcfs")
    fas = copy.deepcopy(qcfs)
    for _, site in named_activations(fas):
        site.quantizer = site.quantiser_of_node()
        node = CalibratedIFNode(site.theta.detach().expand(128), 0.5 * torch.ones(128), step_mode="m")
        node.is_windowed, node.time_steps = True, 4
        site.node = node
    batch = {"input_ids": token_ids()}
    for execution in ("accumulated", "temporal"):
        assert torch.equal(run(fas, execution, **batch)[0], run(qcfs, execution, **batch)[0])


@pytest.mark.parametrize("method", METHODS)
def test_padding_changes_nothing(method: str) -> None:
    snn = convert_rates(bert(BertForSequenceClassification, num_labels=3).double(), method=method)
    ids = token_ids()
    together = run(snn, "temporal", input_ids=ids, attention_mask=padding_mask("right"))[0]
    alone = run(snn, "temporal", input_ids=ids[2:, :4])[0]
    torch.testing.assert_close(together[2:], alone)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "opt"])
def test_generation_with_a_cache_is_that_without(kind: str) -> None:
    snn = convert_rates(KINDS[kind](), time_steps=3)
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    ids = token_ids(2, 5)
    with torch.no_grad():
        cached, whole = (snn.generate(ids, use_cache=use, **options) for use in (True, False))
    assert torch.equal(cached, whole)
    assert cached.shape[1] > 5


def test_thresholds_of_positions_follow_the_cache() -> None:
    snn = convert_rates(gpt2().double(), time_steps=3)
    generator = torch.Generator().manual_seed(3)
    for _, site in named_activations(snn):
        site.quantizer = site.quantiser_of_node()
        theta = site.theta.detach() * (0.5 + torch.rand(64, 128, generator=generator, dtype=torch.float64))
        site.node = CalibratedIFNode(theta, 0.5 * torch.ones_like(theta), step_mode="m")
        site.node.is_windowed = True
    ids = token_ids(2, 8)
    whole = run(snn, "temporal", input_ids=ids)[0]
    first = run(snn, "temporal", input_ids=ids[:, :5], use_cache=True)
    rest = run(snn, "temporal", input_ids=ids[:, 5:], **{CACHE: first[CACHE]})
    torch.testing.assert_close(torch.cat([first.logits, rest.logits], 1), whole)


@pytest.mark.parametrize("kind", ["gpt2", "masked", "bert"])
def test_the_loss_of_a_temporal_call_is_that_of_its_logits(kind: str) -> None:
    snn = convert_rates(KINDS[kind]())
    labels = torch.tensor([0, 1, 2]) if kind == "bert" else token_ids(seed=2)
    output = run(snn, "temporal", input_ids=token_ids(), labels=labels)
    logits = output.logits
    if kind == "gpt2":
        logits, labels = logits[:, :-1], labels[:, 1:]
    expected = nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())
    torch.testing.assert_close(output.loss, expected)


def test_a_loss_that_is_not_of_the_logits_alone_is_refused() -> None:
    """An encoder-decoder makes tokens of its labels, and does not shift them."""
    torch.manual_seed(0)
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    dims = {"vocab_size": 512, "d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    ann = BartForConditionalGeneration(BartConfig(**sizes, **dims, max_position_embeddings=64)).eval()
    batch = {"input_ids": token_ids(), "decoder_input_ids": token_ids(seed=2)}
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.FASConfig(time_steps=3), [batch])
    expected = simulated(ann, snn, 3, 0, **batch)
    torch.testing.assert_close(run(snn, "temporal", **batch)[0], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(NotImplementedError, match="compute it from the logits"):
        run(snn, "temporal", **batch, labels=token_ids(seed=3))


def test_attention_weights_are_refused() -> None:
    snn = convert_rates(gpt2(attn_implementation="eager"))
    with pytest.raises(ValueError, match="leave output_attentions out"):
        run(snn, "temporal", input_ids=token_ids(), output_attentions=True)


def test_other_levels_than_the_network_has_are_refused() -> None:
    snn = convert_rates(gpt2(), levels=4)
    with pytest.raises(las_sj.UnsupportedModelError, match="4 levels already, not to 8"):
        las_sj.convert(snn, las_sj.FASConfig(), calibration_batches())
    assert snn.config.quantization_config.settings.levels == 4
    las_sj.convert(snn, las_sj.FASConfig(levels=4, time_steps=2), calibration_batches())
    assert execution_of(snn).time_steps == 2


def test_threads_do_not_see_each_others_calls() -> None:
    snn = convert_rates(gpt2())
    las_sj.set_execution(snn, "temporal")
    batches = [token_ids(2, 9, seed) for seed in range(4)]
    expected = [run(snn, "temporal", input_ids=ids)[0] for ids in batches]
    found: dict[int, Tensor] = {}

    def call(index: int) -> None:
        with torch.no_grad():
            for _ in range(3):
                found[index] = snn(input_ids=batches[index])[0]

    threads = [threading.Thread(target=call, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, output in enumerate(expected):
        torch.testing.assert_close(found[index], output)


def test_a_vision_transformer_runs_in_lanes() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    ann = ViTForImageClassification(ViTConfig(**sizes, image_size=16, patch_size=8, num_labels=3)).eval()
    pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.FASConfig(), [{"pixel_values": pixels}])
    expected = simulated(ann, snn, 4, 0, pixel_values=pixels)
    torch.testing.assert_close(run(snn, "temporal", pixel_values=pixels)[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_single(dtype: torch.dtype) -> None:
    ann = gpt2()
    snn = convert_rates(ann)
    half = copy.deepcopy(snn).to(dtype)
    assert all(site.node.theta.dtype == torch.float32 for _, site in named_activations(half))
    errors = {}
    for execution in ("accumulated", "temporal"):
        found = run(half, execution, input_ids=token_ids())[0]
        assert found.dtype == dtype
        errors[execution] = relative_error(found.float(), run(snn, execution, input_ids=token_ids())[0])
    assert errors["temporal"] < 2 * errors["accumulated"]  # a level of either flips by rounding


def test_a_network_can_be_converted_again_and_keeps_its_thresholds() -> None:
    fas = convert_rates(gpt2())
    with torch.no_grad():
        for _, site in named_activations(fas):
            site.node.theta.mul_(0.7)
    wanted = {name: site.theta.detach().clone() for name, site in named_activations(fas)}
    accumulated = run(fas, "accumulated", input_ids=token_ids())[0]
    srp = las_sj.convert(fas, las_sj.FASConfig(method="srp", time_steps=6), calibration_batches())
    assert execution_of(srp).lanes.count == 10
    for name, site in named_activations(srp):
        assert torch.equal(site.node.theta.detach(), wanted[name])
    assert torch.equal(run(srp, "accumulated", input_ids=token_ids())[0], accumulated)


def test_a_failed_conversion_leaves_the_model_as_it_was() -> None:
    ann = gpt2()
    before = run_plain(ann)
    with pytest.raises(las_sj.UnsupportedModelError, match=r"names no activation"):
        las_sj.convert(ann, las_sj.FASConfig(sites=("nowhere",)), calibration_batches())
    with pytest.raises(las_sj.CalibrationError, match="empty"):
        las_sj.convert(ann, las_sj.FASConfig(), [])
    assert not any(isinstance(module, QCFSQuantizer) for module in ann.modules())
    assert torch.equal(run_plain(ann), before)


def run_plain(ann: Model) -> Tensor:
    with torch.no_grad():
        logits: Tensor = ann(input_ids=token_ids())[0]
    return logits
