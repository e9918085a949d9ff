"""A layer, a family, a non-linearity and a neuron of somebody else's package, without an edit to this one."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_models import EXECUTIONS, calibration_batches, convert_tiny, llama, relative_error, run, token_ids
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)

import las_sj
from las_sj.analysis import SpikeMonitor, audit
from las_sj.models import (
    Family,
    NeuronFactory,
    Site,
    SpikingLayer,
    Synapses,
    execution_of,
    named_sites,
    register_activation,
    register_family,
    register_input,
    spiking_form_of,
)
from las_sj.models.registry import FAMILIES
from las_sj.neurons import FUNCTIONS, GridFunction, HGNode, Tail, WindowNode, register_function
from las_sj.neurons.counts import WindowCounts

SILU = FUNCTIONS["silu"]
assert isinstance(SILU, GridFunction)


class Swish(nn.Module):
    """silu in another package, under another name."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x)


class Doubled(nn.Module):
    """A module that this package has no spiking form of."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


class TernaryNode(WindowNode):
    """A neuron of somebody else's: fires sgn(v)·2^-t where |v| ≥ 2^-t, in units of a range of its own."""

    def __init__(self, time_steps: int) -> None:
        super().__init__(time_steps)
        self.unit = nn.Parameter(torch.ones(()), requires_grad=False)

    def exact(self, v: Tensor) -> Tensor:
        return v

    def write_train(self, v: Tensor, train: Tensor, counts: WindowCounts) -> None:
        left = v / self.unit
        for t in range(self.time_steps):
            spike = torch.where(left.abs() >= 2.0**-t, left.sign(), 0.0)
            if counts.counts_spikes:
                counts.add_fired(spike.abs())
            train[t] = spike * 2.0**-t * self.unit
            left = left - spike * 2.0**-t

    def write_sum(self, v: Tensor, total: Tensor, counts: WindowCounts) -> None:
        train = v.new_empty((self.time_steps, *v.shape))
        self.write_train(v, train, counts)
        torch.sum(train, 0, out=total)

    def spikes_of(self, v: Tensor) -> Tensor:
        train = v.new_empty((self.time_steps, *v.shape))
        self.write_train(v, train, WindowCounts())
        return train.sign().to(torch.int16)

    def calibrate(self, seen: Any, headroom: float, upper_bound: float | None = None) -> None:
        self.unit.data.fill_(upper_bound or seen.largest * headroom or 1.0)


@pytest.fixture(scope="module")
def swish() -> Iterator[str]:
    """The function under another name, and the module that computes it."""
    function = GridFunction("swish", SILU.exact, SILU.curvature, SILU.third, SILU.core, SILU.below, SILU.above)
    register_function(function)
    register_activation(Swish, "swish")
    yield "swish"
    del FUNCTIONS["swish"]


@spiking_form_of(Doubled)
class SpikingDoubled(SpikingLayer):
    """2x with ternary neurons before it, [T·B, ...] to [T·B, ...]."""

    node: TernaryNode

    def equip(self, factory: NeuronFactory) -> None:
        self.node = TernaryNode(factory.code.time_steps)

    def sites(self) -> Iterator[Site]:
        yield Site("node", self.node, "neuron", (Synapses("", 1),))

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.fire(self.node, x)


def test_a_copy_of_silu_gets_the_range_of_silu(swish: str) -> None:
    own, theirs = HGNode("silu", 16), HGNode(swish, 16)
    for node in (own, theirs):
        node.cover(-30.0, 40.0, 1.5)
    assert (theirs.low, theirs.high) == (own.low, own.high) == (-45.0, 60.0)
    ann = llama()
    other = copy.deepcopy(ann)
    for layer in other.model.layers:
        layer.mlp.act_fn = Swish()
    ranges = [
        [(site.node.low, site.node.high) for name, site in named_sites(convert_tiny(model)) if "act_fn" in name]
        for model in (ann, other)
    ]
    assert len(ranges[0]) == 2
    assert ranges[0] == ranges[1]


def test_a_function_of_their_own() -> None:
    """Mish; its core ends where it is a line to 2e-5."""

    def mish(x: Tensor) -> Tensor:
        return x * torch.tanh(F.softplus(x))

    def curvature(x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (first,) = torch.autograd.grad(mish(x).sum(), x, create_graph=True)
            return torch.autograd.grad(first.sum(), x)[0]

    function = GridFunction("mish_of_theirs", mish, curvature, third=2.0, core=(-16.0, 8.0))
    register_function(function)
    try:
        node = HGNode("mish_of_theirs", 16)
        x = torch.linspace(-20, 20, 20_001, dtype=torch.float64)
        assert float((node(x) - mish(x)).abs().max()) < 1e-4
        with pytest.raises(ValueError, match="another function"):
            register_function(GridFunction("mish_of_theirs", F.silu, curvature, 1.0, (-1.0, 1.0), Tail(), Tail()))
    finally:
        del FUNCTIONS["mish_of_theirs"]


def test_register_activation_refuses_an_unknown_function() -> None:
    with pytest.raises(ValueError, match="function must be one of"):
        register_activation(Doubled, "no such function")


def test_a_layer_and_a_neuron(tmp_path: Path) -> None:
    ann = llama()
    ann.model.layers[0].mlp = nn.Sequential(ann.model.layers[0].mlp, Doubled())
    snn = convert_tiny(ann, time_steps=20)
    assert snn.las_coverage.spiking["Doubled"] == 1
    assert type(snn.model.layers[0].mlp[1]).__name__ == "SpikingDoubled"
    ids = token_ids()
    with torch.no_grad():
        reference = ann(input_ids=ids).logits
    for execution in EXECUTIONS:
        assert relative_error(run(snn, execution, input_ids=ids).logits, reference) < 1e-3
    with SpikeMonitor(snn) as monitor:
        run(snn, "accumulated", input_ids=ids)
    assert monitor.sites["model.layers.0.mlp.1.node"].spikes > 0
    assert audit(snn, {"input_ids": ids[:1, :3]}).analog_products == 0


class SignalConfig(PretrainedConfig):
    model_type = "their_signal"


class SignalModel(PreTrainedModel):
    """Takes a float argument of a name of its own, [B, S, C]."""

    config_class = SignalConfig
    main_input_name = "voltage"

    def __init__(self, config: SignalConfig) -> None:
        super().__init__(config)
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 4))
        self.post_init()

    def forward(self, voltage: Tensor) -> tuple[Tensor]:
        return (self.layers(voltage),)


def test_an_input() -> None:
    torch.manual_seed(0)
    ann = SignalModel(SignalConfig()).eval()
    register_family(Family(("their_signal",)))
    register_input("voltage")
    try:
        snn = las_sj.convert(copy.deepcopy(ann), None, [{"voltage": torch.randn(4, 5, 8)}])
        batch = {"voltage": torch.randn(2, 5, 8)}
        with torch.no_grad():
            reference = ann(**batch)[0]
        for execution in EXECUTIONS:
            assert relative_error(run(snn, execution, **batch)[0], reference) < 1e-3
        with SpikeMonitor(snn) as monitor:
            run(snn, "temporal", **batch)
        assert (monitor.tokens, monitor.samples) == (0, 2)
        assert audit(snn, batch).fully_spike_driven
    finally:
        del FAMILIES["their_signal"]


class TheirConfig(LlamaConfig):
    model_type = "their_llama"


class TheirModel(LlamaForCausalLM):
    config_class = TheirConfig


def test_a_family(tmp_path: Path) -> None:
    AutoConfig.register("their_llama", TheirConfig, exist_ok=True)
    AutoModelForCausalLM.register(TheirConfig, TheirModel, exist_ok=True)
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 32}
    ann = TheirModel(TheirConfig(vocab_size=100, hidden_size=16, initializer_range=0.2, **sizes)).eval()
    by_operations = las_sj.convert(copy.deepcopy(ann), None, calibration_batches())
    assert execution_of(by_operations).operated is not None
    register_family(Family(("their_llama",), attention={"LlamaAttention": ("q_proj", "k_proj", "v_proj")}))
    try:
        snn = las_sj.convert(copy.deepcopy(ann), None, calibration_batches())
        snn.save_pretrained(tmp_path)
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
        ids = token_ids()
        for execution in EXECUTIONS:
            output = run(snn, execution, input_ids=ids).logits
            assert torch.equal(run(loaded, execution, input_ids=ids).logits, output)
            with torch.no_grad():
                assert relative_error(output, ann(input_ids=ids).logits) < 1e-3
    finally:
        del FAMILIES["their_llama"]
