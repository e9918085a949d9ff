"""The audit finds every product, and calls spikes only what is."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_models import MODELS, convert_tiny, run, token_ids
from torch import Tensor, nn

import las_sj
from las_sj.analysis import SpikeMonitor, audit
from las_sj.analysis.auditing.classes import (
    CLASSES,
    CONSTANT_SCALING,
    NEURON_UPDATE,
    SPIKE_ACCUMULATED,
    SPIKE_WEIGHT,
)
from las_sj.analysis.auditing.provenance import Origin, Provenance
from las_sj.analysis.energies.operations import count_operations
from las_sj.models import execution_of, named_sites, sees_currents
from las_sj.neurons import MTNode, OATNode, ThresholdNode

T = 5
BATCH = {"input_ids": token_ids(2, 6)}
NAMES = list(MODELS)


@pytest.mark.parametrize("name", NAMES)
def test_converted_models_are_spike_driven(name: str) -> None:
    snn = convert_tiny(MODELS[name](), time_steps=T, levels=3)
    found = audit(snn, BATCH)
    assert found.analog == []
    assert found.fully_spike_driven
    assert found.counts[SPIKE_WEIGHT] > 0
    assert found.counts[SPIKE_ACCUMULATED] > 0
    assert "Fully spike-driven: yes" in str(found)
    assert set(found.counts) == set(CLASSES)


@pytest.mark.parametrize(
    "settings", [{"rounding": "floor"}, {"levels": 1}, {"levels": 15, "max_spikes": 1}, {"outlier_aware": False}]
)
def test_with_other_settings(settings: dict[str, Any]) -> None:
    assert audit(convert_tiny(MODELS["llama"](), time_steps=T, **settings), BATCH).fully_spike_driven


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_in_other_precisions(dtype: torch.dtype) -> None:
    snn = convert_tiny(MODELS["bert"](), time_steps=T, levels=3).to(dtype)
    assert audit(snn, BATCH).fully_spike_driven


@pytest.mark.parametrize("scale", [0.01, 0.2, 50.0, 1e6])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_rows_of_other_octaves(name: str, scale: float) -> None:
    """In norms the thresholds of such rows are others, and spikes may be larger by powers of two."""
    snn = convert_tiny(MODELS[name](), time_steps=T)
    embeddings = snn.get_input_embeddings().weight[BATCH["input_ids"]].detach()
    assert audit(snn, {"inputs_embeds": embeddings * scale}).fully_spike_driven


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_an_unconverted_model_is_not(name: str) -> None:
    ann = MODELS[name]()
    found = audit(ann, BATCH)
    assert not found.fully_spike_driven
    assert found.time_steps is None
    assert found.counts[NEURON_UPDATE] == found.counts[SPIKE_WEIGHT] == found.counts[SPIKE_ACCUMULATED] == 0
    linear = {module: row.count for row in found.analog if "mm" in row.operator for module in [row.module]}
    for module_name, module in ann.named_modules():
        if isinstance(module, nn.Linear):
            rows = 2 if "pooler" in module_name else 2 * 6
            assert linear[module_name] == rows * module.in_features * module.out_features
    attention = [row.count for row in found.analog if "scaled_dot_product" in row.operator]
    assert attention == [2 * 4 * 6 * 6 * (8 + 8)] * 2
    assert found.analog_products == sum(row.count for row in found.analog)
    assert "Fully spike-driven: no" in str(found)


def test_spike_weight_counts_are_the_monitors() -> None:
    for name in ("bert", "gpt2", "llama"):
        snn = convert_tiny(MODELS[name](), time_steps=T, levels=3)
        found = audit(snn, BATCH)
        with SpikeMonitor(snn) as monitor:
            run(snn, "temporal", **BATCH)
        rows = {row.name: row.synaptic_operations for row in count_operations(monitor)}
        weights = [row for row in found.rows if row.kind == SPIKE_WEIGHT and "mm" in row.operator]
        assert len(weights) > 8
        for row in weights:
            assert rows[row.module] == row.count, row.module


def test_neuron_updates_are_neurons_times_steps() -> None:
    snn = convert_tiny(MODELS["bert"](), time_steps=T)
    found = audit(snn, BATCH)
    with SpikeMonitor(snn) as monitor:
        run(snn, "temporal", **BATCH)
    updates = {row.module: row.count for row in found.rows if row.kind == NEURON_UPDATE}
    assert updates == {name: T * counts.neurons for name, counts in monitor.sites.items()}


def test_rope_and_scale_factors_are_named() -> None:
    found = audit(convert_tiny(MODELS["llama"](), time_steps=T), BATCH)
    scalings = {(row.module.rpartition(".")[2], row.operator) for row in found.rows if row.kind == CONSTANT_SCALING}
    assert ("self_attn", "mul by a table of constants") in scalings
    assert ("las_attention", "mul by a scale factor") in scalings
    rope = [row.count for row in found.rows if row.operator == "mul by a table of constants"]
    assert sum(rope) == 2 * 2 * T * 2 * 6 * (
        32 + 16
    )  # layers, sine and cosine, steps, batch, tokens, channels of q and k


@sees_currents
class AnalogProduct(nn.Module):
    """What a careless modelling file does: a product of two currents."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return y + 0.0 * y * x[..., :1]


def test_a_smuggled_product_is_found() -> None:
    snn = convert_tiny(MODELS["bert"](), time_steps=T)
    dense = snn.encoder.layer[1].output.dense
    snn.encoder.layer[1].output.dense = AnalogProduct(dense)
    found = audit(snn, BATCH)
    assert [(row.module, row.operator) for row in found.analog] == [("encoder.layer.1.output.dense", "mul")]
    assert found.analog_products == T * 2 * 6 * 32
    assert not found.fully_spike_driven


@sees_currents
class Smuggler(nn.Module):
    """Multiplies its currents by something of their own, in ways that modelling code might."""

    def __init__(self, inner: nn.Module, smuggle: Any) -> None:
        super().__init__()
        self.inner = inner
        self.smuggle = smuggle

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return y + 0.0 * self.smuggle(y).reshape(y.shape)


WEIGHT = nn.Parameter(torch.eye(32))
SMUGGLED = {
    "einsum": lambda y: torch.einsum("bsc,bsc->bsc", y, y),
    "matmul": lambda y: y @ y.transpose(1, 2) @ y,
    "division": lambda y: y / (1 + y.abs()),
    "in place": lambda y: y.clone().mul_(y),
    "addcmul": lambda y: torch.addcmul(y, y, y),
    "power": lambda y: y**2,
    "square root": lambda y: y.abs().sqrt(),
    "sigmoid": lambda y: torch.sigmoid(y),
    "softmax": lambda y: y.softmax(-1),
    "attention": lambda y: nn.functional.scaled_dot_product_attention(y, y, y),
    "item": lambda y: y * y.max().item(),
    "numpy": lambda y: y * torch.from_numpy(y.numpy().copy()),
    "lists": lambda y: torch.tensor(y.tolist()) * y,
    "layer norm": lambda y: nn.functional.layer_norm(y, y.shape[-1:]),
    "lerp": lambda y: torch.lerp(y, y, y),
    "cumulative product": lambda y: y.cumprod(-1),
    "product": lambda y: y.prod(-1, keepdim=True).expand(y.shape),
    "norm": lambda y: y.norm(dim=-1, keepdim=True).expand(y.shape),
    "variance": lambda y: y.var(-1, keepdim=True).expand(y.shape),
    "broadcast weights": lambda y: (F.pad(y, (0, 0))[..., None, :] * torch.eye(y.shape[-1])).sum(-1),
    "own weights": lambda y: (y[..., None, :] * WEIGHT).sum(-1),
    "constant over data": lambda y: torch.tensor(1.0) / (y.abs() + 1),
    "addcdiv": lambda y: torch.addcdiv(y, torch.ones(()), y.abs() + 1),
    "scatter": lambda y: y.clone().scatter_(-1, torch.zeros_like(y, dtype=torch.long), y, reduce="multiply"),
    "look-up": lambda y: torch.arange(9.0).square()[y.long().clamp(0, 8)],
    "staircase": lambda y: y.long().float(),
    "copied staircase": lambda y: torch.zeros_like(y, dtype=torch.long).copy_(y).float(),
    "bit cast": lambda y: (y.view(torch.int32) + 1).view(torch.float32),
    "double": lambda y: (y.double() * y.double()).float(),
}


@pytest.mark.filterwarnings("ignore:The reduce argument")
@pytest.mark.parametrize("smuggle", SMUGGLED.values(), ids=SMUGGLED)
def test_products_in_other_guises_are_found(smuggle: Any) -> None:
    snn = convert_tiny(MODELS["bert"](), time_steps=T)
    snn.encoder.layer[1].output.dense = Smuggler(snn.encoder.layer[1].output.dense, smuggle)
    found = audit(snn, BATCH)
    assert not found.fully_spike_driven
    assert {row.module for row in found.analog} == {"encoder.layer.1.output.dense"}


@pytest.mark.parametrize(
    "harmless",
    [
        lambda y: y * 3 + torch.tensor(2.0),
        lambda y: torch.relu(y).clamp(max=1) - y.amax(-1, keepdim=True),
        lambda y: torch.where(y > 0, y, -y).flip(-1).roll(1, 1),
        lambda y: y * torch.arange(y.shape[-1]) / 7,
        lambda y: torch.cat([y, y], -1).chunk(2, -1)[0].cumsum(0),
    ],
)
def test_additions_selections_and_constants_are_no_products(harmless: Any) -> None:
    snn = convert_tiny(MODELS["bert"](), time_steps=T)
    snn.encoder.layer[1].output.dense = Smuggler(snn.encoder.layer[1].output.dense, harmless)
    assert audit(snn, BATCH).analog == []


def test_values_that_are_no_spikes_are_found() -> None:
    """A population whose emissions are changed on the way, although its node is in place."""
    snn = convert_tiny(MODELS["bert"](), time_steps=T)
    node = snn.get_submodule("encoder.layer.0.intermediate.dense.input_node")
    node.register_forward_hook(lambda module, args, train: train * 1.01)
    found = audit(snn, BATCH)
    assert [row.module for row in found.analog] == ["encoder.layer.0.intermediate.dense"]


def train_of(node: ThresholdNode, x: Tensor) -> tuple[Provenance, Tensor]:
    provenance, train = Provenance(), node(x)
    provenance.mark_train("a", node, train, None)
    return provenance, train


def test_a_spike_at_the_wrong_step_is_none() -> None:
    provenance, train = train_of(OATNode(1.0, 4.0, T, levels=3, step_mode="m"), torch.randn(1, 200))
    assert provenance.is_spikes(train)
    assert provenance.is_spikes(train[2])
    assert provenance.is_spikes(train.transpose(0, 1))
    for changed in (lambda: train.copy_(train.roll(1, 0)), lambda: train.add_(0.01), lambda: train.fill_(torch.nan)):
        kept = train.clone()
        changed()
        assert not provenance.is_spikes(train)
        train.copy_(kept)
    provenance.mark(train, None)
    assert not provenance.is_spikes(train)
    provenance.mark(train, Origin(1))
    assert not provenance.is_spikes(train)


def test_a_reordered_train_is_analog() -> None:
    """The weights would meet the spikes of other time steps."""
    snn = convert_tiny(MODELS["bert"](), time_steps=T)
    node = snn.get_submodule("encoder.layer.0.intermediate.dense.input_node")
    node.register_forward_hook(lambda module, args, train: train.flip(0))
    assert [row.module for row in audit(snn, BATCH).analog] == ["encoder.layer.0.intermediate.dense"]


def tamper_hook(snn: Any) -> None:
    node = snn.get_submodule("encoder.layer.0.output.dense.input_node")
    node.register_forward_pre_hook(lambda module, args: (args[0] ** 2,))


def tamper_forward(snn: Any) -> None:
    node = snn.get_submodule("encoder.layer.0.output.dense.input_node")
    original = node.forward
    node.forward = lambda x: original(x.softmax(-1))


def tamper_analog(snn: Any) -> None:
    node = snn.get_submodule("encoder.layer.0.intermediate.intermediate_act_fn.node")
    node.forward = lambda x: torch.tanh(x) * x


def tamper_bypass(snn: Any) -> None:
    snn.get_submodule("encoder.layer.0.intermediate.intermediate_act_fn.node").bypass = True


@pytest.mark.filterwarnings("ignore::las_sj.OutOfRangeWarning")  # squares
@pytest.mark.parametrize("tamper", [tamper_hook, tamper_forward, tamper_analog, tamper_bypass])
def test_a_node_must_be_what_it_says(tamper: Any) -> None:
    snn = convert_tiny(MODELS["bert"](), time_steps=T)
    tamper(snn)
    found = audit(snn, BATCH)
    assert {row.operator for row in found.analog} == {"not what its neurons emit for its input"}
    assert len(found.analog) == 1


def test_in_inference_mode() -> None:
    snn = convert_tiny(MODELS["llama"](), time_steps=T)
    expected = audit(snn, BATCH)
    with torch.inference_mode():
        assert audit(snn, BATCH) == expected


def test_a_loss_is_no_part_of_the_network() -> None:
    snn = convert_tiny(MODELS["gpt2"](), time_steps=T)
    assert audit(snn, {**BATCH, "labels": BATCH["input_ids"]}) == audit(snn, BATCH)


def test_levels_of_another_code_are_none() -> None:
    node, finer = MTNode(1.0, T, levels=2, step_mode="m"), MTNode(1.0, T, levels=7, step_mode="m")
    provenance, train = train_of(node, torch.randn(1, 300))
    train.copy_(finer(torch.randn(1, 300)))
    assert not provenance.is_spikes(train)


def test_analog_islands_are_found() -> None:
    ann = MODELS["bert"]()
    snn = convert_tiny(ann, time_steps=T, keep_analog=["encoder.layer.0.output.dense"])
    found = audit(snn, BATCH)
    assert {row.module for row in found.analog} == {"encoder.layer.0.output.dense"}
    assert found.analog_products == 2 * 6 * 64 * 32


def test_stages_of_a_chain() -> None:
    """Populations on the longest way: counted by hand from the paper's components."""
    norm = 5  # centred, square, rsqrt, scale, output
    attention = (
        1 + 1 + 1 + 1 + 1 + 1 + 1
    )  # query, exp, weight, reciprocal, scale, probability, and its projection's input
    layer = 1 + attention + norm + 1 + 1 + 1 + norm  # input of q, k, v; intermediate, its activation, output
    snn = convert_tiny(MODELS["bert"](), time_steps=T)
    found = audit(snn, BATCH)
    assert found.stages == norm + 2 * layer + 2  # and the pooler with its tanh
    assert found.latency_steps == T * found.stages
    assert audit(MODELS["bert"](), BATCH).latency_steps is None


def test_nothing_is_left_behind() -> None:
    snn = convert_tiny(MODELS["gpt2"](), time_steps=T)
    las_sj.set_execution(snn, "accumulated")
    before = snn(**BATCH).logits
    audit(snn, BATCH)
    assert execution_of(snn).step_mode == "s"
    assert all(site.node.step_mode == "s" for _, site in named_sites(snn))
    assert torch.equal(snn(**BATCH).logits, before)
    with pytest.raises(IndexError):
        audit(snn, {"input_ids": token_ids() + 1000})
    assert torch.equal(snn(**BATCH).logits, before)
    assert not nn.modules.module._global_forward_pre_hooks


def test_no_input() -> None:
    with pytest.raises(ValueError, match="the batch must have one of input_ids"):
        audit(MODELS["bert"](), {"attention_mask": torch.ones(1, 2)})


class TakesAMask(nn.Module):
    """Its only input has the name of what says where, not what."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, mask: Tensor) -> Tensor:
        hidden = self.first(mask)
        return self.second(hidden.tanh() * hidden)


def test_an_only_input_is_what_the_network_computes_with_whatever_its_name() -> None:
    batches = [{"mask": torch.randn(4, 8, generator=torch.Generator().manual_seed(seed))} for seed in range(3)]
    snn = las_sj.convert(TakesAMask(), calibration=batches)
    assert audit(snn, batches[0]).fully_spike_driven
    island = las_sj.convert(TakesAMask(), las_sj.LASConfig(keep_analog=("first",)), batches)
    assert not audit(island, batches[0]).fully_spike_driven


def test_a_copy_is_not_audited_in_its_place() -> None:
    """Two models in one process do not mix."""
    first = convert_tiny(MODELS["bert"](), time_steps=T)
    second = copy.deepcopy(first)
    assert audit(first, BATCH) == audit(second, BATCH)
