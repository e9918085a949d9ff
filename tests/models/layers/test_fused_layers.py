"""Layers that run all of their populations in one kernel, beside the same layers population after population."""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spikingjelly.activation_based import functional
from tiny_families import TINY_MODELS, Model, double
from tiny_models import EXECUTIONS, relative_error, run
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

import las_sj
from las_sj.models import named_sites
from las_sj.models.call import Call, under_way
from las_sj.models.execution import Execution
from las_sj.models.layers.activation import SpikingActivation
from las_sj.models.layers.attention import SpikingAttentionCore
from las_sj.models.layers.gated_mlp import SpikingGatedMLP
from las_sj.models.layers.linear import FedLinear, SpikingLinear
from las_sj.models.layers.norm import SpikingLayerNorm, SpikingRMSNorm
from las_sj.models.layers.spiking_layer import SpikingLayer, become
from las_sj.models.neuron_factory import NeuronFactory
from las_sj.neurons import MultiThresholdCode, OATNode, WindowNode, fused
from las_sj.neurons.kernels import host

pytestmark = pytest.mark.skipif(host.load() is None, reason="no C++ compiler")

T, CHANNELS = 11, 12
seeds = st.integers(0, 2**32 - 1)
settings = st.fixed_dictionaries(
    {
        "levels": st.sampled_from((1, 15)),
        "rounding": st.sampled_from(("nearest", "floor")),
        "max_spikes": st.sampled_from((None, 2)),
    }
)


def call_of(execution: Execution, layer: nn.Module) -> AbstractContextManager[None]:
    """Within this context a call in the execution that is set is under way."""
    return under_way(Call(execution.identity, layer, execution.step_mode == "m", T))


def factory_of(options: dict[str, Any]) -> NeuronFactory:
    return NeuronFactory(MultiThresholdCode(T, **options))


def nodes_of(module: nn.Module) -> Iterator[WindowNode]:
    return (node for node in module.modules() if isinstance(node, WindowNode))


def spiking(module: nn.Module, mixin: type[SpikingLayer], options: dict[str, Any], execution: Execution) -> Any:
    """A layer in fp64 whose thresholds leave some values out of range."""
    become(module, mixin, factory_of(options), execution, PretrainedConfig())
    set_thresholds(module)
    return module.double().eval()


def set_thresholds(module: nn.Module) -> None:
    """Different ones, so that no product of two codes lies on the grid of a third, where a last digit would decide."""
    for index, node in enumerate(nodes_of(module)):
        if isinstance(node, OATNode):
            node.theta_normal.data.fill_(1.7 + 0.1234 * index)
            node.theta_outlier.data.fill_(40.3 + 1.2345 * index)


def norm(mixin: type[SpikingLayer], plain: nn.Module, options: dict[str, Any], execution: Execution) -> Any:
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(torch.linspace(-0.3, 0.4, CHANNELS))
    return spiking(plain, mixin, options, execution)


def gated(options: dict[str, Any], execution: Execution) -> Any:
    config = PretrainedConfig(hidden_size=CHANNELS, intermediate_size=20, mlp_bias=True, hidden_act="silu")
    torch.manual_seed(0)
    layer = LlamaMLP(config)
    for name, mixin in (("gate_proj", FedLinear), ("up_proj", FedLinear), ("down_proj", SpikingLinear)):
        spiking(getattr(layer, name), mixin, options, execution)
    spiking(layer.act_fn, SpikingActivation, options, execution)
    return spiking(layer, SpikingGatedMLP, options, execution)


LAYERS: dict[str, Callable[[dict[str, Any], Execution], Any]] = {
    "LayerNorm": lambda *rest: norm(SpikingLayerNorm, nn.LayerNorm(CHANNELS), *rest),
    "LayerNorm without gains": lambda *rest: norm(
        SpikingLayerNorm, nn.LayerNorm(CHANNELS, elementwise_affine=False), *rest
    ),
    "RMSNorm": lambda *rest: norm(SpikingRMSNorm, LlamaRMSNorm(CHANNELS), *rest),
    "gated": gated,
}


def currents(shape: tuple[int, ...], seed: int) -> Tensor:
    """Of all sizes, with rows of zeros."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.exp2(torch.rand(shape[:-1], generator=generator, dtype=torch.float64) * 12 - 7)
    values = torch.randn(shape, generator=generator, dtype=torch.float64) * sizes.unsqueeze(-1)
    return values * (torch.rand(shape[-2:-1], generator=generator) > 0.2).unsqueeze(-1)


def both_ways(call: Callable[[], Tensor], watched: WindowNode, everyone: list[WindowNode]) -> tuple[Tensor, Tensor]:
    """Fused, and while somebody looks at a population; the same inputs must lie out of range."""
    results, beyond = [], []
    for recorder in (None, lambda *seen: None):
        watched.recorder = recorder
        for node in everyone:
            node.reset_counts()
        results.append(call())
        beyond.append([node.out_of_range for node in everyone])
    watched.recorder = None
    assert beyond[0] == beyond[1]
    return results[0], results[1]


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12, equal_nan=True)


@given(st.sampled_from(list(LAYERS)), settings, st.integers(1, 5), st.booleans(), seeds)
def test_layers(kind: str, options: dict[str, Any], rows: int, temporal: bool, seed: int) -> None:
    execution = Execution(T)
    layer = LAYERS[kind](options, execution)
    execution.step_mode = "m" if temporal else "s"
    functional.set_step_mode(layer, execution.step_mode)
    x = currents((T * 2 if temporal else 2, rows, CHANNELS), seed)
    watched = layer.gate_node if kind == "gated" else layer.rsqrt_node
    with torch.no_grad(), call_of(execution, layer):
        assert_close(*both_ways(lambda: layer(x), watched, list(nodes_of(layer))))


@given(
    settings,
    st.sampled_from(["none", "causal", "left", "per head", "hidden rows"]),
    st.integers(1, 6),
    st.booleans(),
    seeds,
)
def test_attention(options: dict[str, Any], masked: str, length: int, temporal: bool, seed: int) -> None:
    execution = Execution(T)
    core = SpikingAttentionCore()
    core.__dict__["execution"] = execution
    core.equip(factory_of(options))
    set_thresholds(core)
    core.weight_node.theta_outlier.data.fill_(1.83)
    core.scale_node.theta_outlier.data.fill_(1.9)
    core.probability_node.theta_outlier.data.fill_(1.95)
    core.double()
    execution.step_mode = "m" if temporal else "s"
    functional.set_step_mode(core, execution.step_mode)
    steps = T if temporal else 1
    query = currents((steps * 2, 4, length, 6), seed)
    key, value = currents((steps * 2, 2, length, 6), seed + 1), currents((steps * 2, 2, length, 6), seed + 2)
    mask = mask_of(masked, length)
    with torch.no_grad(), call_of(execution, core):
        both = both_ways(lambda: core(query, key, value, mask, 0.4), core.exp_node, list(nodes_of(core)))
    assert_close(*both)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("temporal", [True, False])
@pytest.mark.parametrize("kind", ["LayerNorm", "RMSNorm"])
def test_half_precision_of_norms(kind: str, temporal: bool, dtype: torch.dtype) -> None:
    """Everything between what goes in and what goes out is in single precision."""
    execution = Execution(T)
    layer = LAYERS[kind]({"levels": 15}, execution).to(dtype)
    execution.step_mode = "m" if temporal else "s"
    functional.set_step_mode(layer, execution.step_mode)
    x = currents((T * 2 if temporal else 2, 3, CHANNELS), 0).to(dtype)
    with torch.no_grad(), call_of(execution, layer):
        found, expected = layer(x), layer.float()(x.float())
    assert_rounded(found, expected, dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("as_train", [True, False])
def test_half_precision_of_softmax_and_gated_products(as_train: bool, dtype: torch.dtype) -> None:
    execution = Execution(T)
    core, gated_layer = SpikingAttentionCore(), gated({"levels": 15}, execution)
    core.equip(factory_of({"levels": 15}))
    set_thresholds(core)
    for module in (core, gated_layer):
        functional.set_step_mode(module, "m" if as_train else "s")
    x, up = (currents((T if as_train else 1, 2, 3, 1, 5, 7), seed).to(dtype) for seed in (0, 1))
    mask = mask_of("causal", 7)
    assert mask is not None
    mask = mask[0, 0, :5].clamp(min=-3e4).to(dtype)
    products = (gated_layer.act_fn.node, gated_layer.gate_node, gated_layer.up_node)
    results = []
    for run_in in (dtype, torch.float32):
        weights = fused.softmax(core.softmax_nodes, x.to(run_in), mask.to(run_in), as_train=as_train)
        product = fused.gated_product(products, x.to(run_in), up.to(run_in), as_train=as_train)
        assert weights is not None
        assert product is not None
        results.append((weights, product))
    for found, expected in zip(*results, strict=True):
        assert_rounded(found, expected, dtype)


def assert_rounded(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Bit for bit what single precision gives, rounded once."""
    assert found.dtype == dtype
    assert not expected.isnan().any()
    assert torch.equal(found, expected.to(dtype))


def mask_of(kind: str, length: int) -> Tensor | None:
    """Additive, [B, 1 or H, S, S]."""
    hidden = torch.zeros(2, 4 if kind == "per head" else 1, length, length, dtype=torch.bool)
    if kind == "none":
        return None
    if kind == "causal":
        hidden |= torch.ones(length, length).triu(1).bool()
    elif kind == "left":
        hidden[1, :, :, : length // 2] = True
    elif kind == "per head":
        hidden[:, 1::2, :, length // 2 + 1 :] = True
    else:
        hidden[0, :, 0] = True
    return torch.zeros(hidden.shape, dtype=torch.float64).masked_fill_(hidden, torch.finfo(torch.float32).min)


@pytest.mark.parametrize("temporal", [True, False])
@pytest.mark.parametrize("spoilt", [torch.nan, torch.inf, -torch.inf])
def test_not_finite_values_stay_in_their_row(spoilt: float, temporal: bool) -> None:
    execution = Execution(T)
    layer = LAYERS["LayerNorm"]({"levels": 15}, execution)
    execution.step_mode = "m" if temporal else "s"
    functional.set_step_mode(layer, execution.step_mode)
    x = currents((T * 2 if temporal else 2, 3, CHANNELS), 0)
    x[0, 1, 4] = spoilt
    with torch.no_grad(), call_of(execution, layer):
        assert_close(*both_ways(lambda: layer(x), layer.rsqrt_node, list(nodes_of(layer))))


MODEL_NAMES = (
    "BertForMaskedLM",
    "GPT2LMHeadModel",
    "OPTForCausalLM",
    "LlamaForCausalLM",
    "Gemma2ForCausalLM",
    "Phi3ForCausalLM",
    "CLIPVisionModel",
    "Qwen2VLForConditionalGeneration",
)


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_models(name: str) -> None:
    """Fused, population after population by kernels, and all on torch: one network."""
    tiny = TINY_MODELS[name]
    snn = las_sj.convert(tiny.build(), None, [tiny.batch(4, 1)]).double()
    batch = double(tiny.batch(2, 3))
    for execution in EXECUTIONS:
        expected = first_output(on_torch(snn), execution, batch)
        assert relative_error(first_output(snn, execution, batch), expected) < 1e-9
        assert relative_error(first_output(watched(snn), execution, batch), expected) < 1e-9


def on_torch(model: Model) -> Model:
    model = copy.deepcopy(model)
    for _, site in named_sites(model):
        site.node.backend = "torch"
    return model


def watched(model: Model) -> Model:
    model = copy.deepcopy(model)
    for _, site in named_sites(model):
        site.node.recorder = lambda *seen: None
    return model


def first_output(model: Model, execution: str, batch: dict[str, Any]) -> Tensor:
    output: Tensor = run(model, execution, **batch)[0]
    return output


@pytest.mark.parametrize("stream_from", [1, 1000, 20_000])
@pytest.mark.parametrize("shape", [(2, 7, CHANNELS), (5, CHANNELS)])
def test_linear_layers_stream(shape: tuple[int, ...], stream_from: int) -> None:
    """Trains that would be too large are used up for some tokens at a time."""
    execution = Execution(T)
    layer = spiking(nn.Linear(CHANNELS, 9), SpikingLinear, {"levels": 15}, execution)
    execution.step_mode = "m"
    functional.set_step_mode(layer, "m")
    x = currents((T * shape[0], *shape[1:]), 0)
    with torch.no_grad(), call_of(execution, layer):
        expected = layer(x)
        beyond = layer.input_node.out_of_range
        layer.input_node.reset_counts()
        layer.stream_from = stream_from
        torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    assert layer.input_node.out_of_range == beyond


def test_who_looks_at_a_population_gets_it() -> None:
    """Recorders, hooks, spike counts, a wrapped forward and gradients keep populations apart."""
    x = torch.randn(1, 3)
    node = OATNode(1.0, 4.0, 16, 15)
    assert fused.fusable([node], x, as_train=False)
    assert not fused.fusable([node], x, as_train=True)
    assert not fused.fusable([node], x[:0], as_train=False)
    assert fused.fusable([node], x.half(), as_train=False)
    assert not fused.fusable([node], x.clone().requires_grad_(), as_train=False)
    for attribute, value in (
        ("recorder", print),
        ("observer", print),
        ("bypass", True),
        ("count_spikes", True),
        ("store_v_seq", True),
        ("backend", "torch"),
        ("forward", print),
    ):
        other = copy.deepcopy(node)
        setattr(other, attribute, value)
        assert not fused.fusable([node, other], x, as_train=False), attribute
    other = copy.deepcopy(node)
    handle = other.register_forward_hook(lambda *seen: None)
    assert not fused.fusable([other], x, as_train=False)
    handle.remove()
    assert fused.fusable([other], x, as_train=False)
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *seen: None)
    assert not fused.fusable([other], x, as_train=False)
    handle.remove()
