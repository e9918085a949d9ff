"""Short forms of norms, softmax and activations: stages, nothing analog, accurate, counted and saved as the others."""

import copy
from functools import cache
from pathlib import Path

import pytest
import torch
from tiny_families import TINY_MODELS
from tiny_models import (
    EXECUTIONS,
    MODELS,
    Model,
    bert,
    convert_tiny,
    gpt2,
    llama,
    padding_mask,
    relative_error,
    run,
    run_and_count,
    token_ids,
)
from torch import nn
from transformers.pytorch_utils import Conv1D

import las_sj
from las_sj.analysis import SpikeMonitor, audit, energy_report
from las_sj.models import UnsupportedModelError, named_sites
from las_sj.models.layers.activation import hg_function
from las_sj.models.layers.coded_activation import CodedActivation
from las_sj.models.layers.linear import FedLinear, SpikingLinear
from las_sj.models.layers.products import gained_product, spiking_product
from las_sj.models.registry import FAMILIES, family_of_config
from las_sj.neurons import CodingHGNode, MTNode, OATNode

ONE_BLOCK = {
    "llama": lambda: llama(num_hidden_layers=1),
    "bert": lambda: bert(num_hidden_layers=1),
    "gpt2": lambda: gpt2(n_layer=1),
}
WITH_PLAIN_BLOCKS = [
    *("BertModel", "RobertaModel", "ElectraForSequenceClassification", "DistilBertForSequenceClassification"),
    *("GPT2LMHeadModel", "GPTNeoXForCausalLM", "OPTForCausalLM", "ViTModel", "CLIPVisionModel"),
]
# Populations on the longest way: before the blocks and after them (norms, heads, a pooler), and of each block.
AROUND = {"llama": 3, "bert": 4, "gpt2": 3}
PER_BLOCK = {"llama": 13, "bert": 12, "gpt2": 12}


@cache
def _pair(name: str) -> tuple[Model, Model]:
    ann = MODELS[name]()
    return ann, convert_tiny(ann, fewer_stages=True)


@pytest.fixture(params=list(PER_BLOCK))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_stages(name: str) -> None:
    """Of one block and of two: T does not matter."""
    anns = ONE_BLOCK[name](), MODELS[name]()
    snns = (convert_tiny(ann, fewer_stages=True, time_steps=4, headroom=2.0) for ann in anns)
    one, two = (audit(snn, {"input_ids": token_ids(1, 4)}) for snn in snns)
    assert (one.analog_products, two.analog_products) == (0, 0), two.analog
    assert one.stages == AROUND[name] + PER_BLOCK[name]
    assert two.stages == AROUND[name] + 2 * PER_BLOCK[name]
    assert two.latency_steps == two.stages * 4


@pytest.mark.parametrize("padding", ["none", "left"])
def test_both_executions_are_one_network_close_to_the_ann(name: str, padding: str) -> None:
    ann, snn = copy.deepcopy(_pair(name))
    mask = torch.ones_like(token_ids()) if padding == "none" else padding_mask(padding)
    batch = {"input_ids": token_ids() * mask, "attention_mask": mask}
    with torch.no_grad():
        expected = ann(**batch)[0][mask.bool()]
    assert 0 < relative_error(run(snn, "accumulated", **batch)[0][mask.bool()], expected) < 3e-4
    snn.double()
    (temporal, spikes), (accumulated, counts) = (run_and_count(snn, execution, **batch) for execution in EXECUTIONS)
    assert relative_error(temporal[0][mask.bool()], accumulated[0][mask.bool()]) < 1e-9
    assert spikes == counts
    assert all(fired > 0 for _, fired in spikes.values())


def test_the_ann_costs_the_same_and_the_snn_what_its_spikes_reach(name: str) -> None:
    ann, snn = _pair(name)
    batch = {"input_ids": token_ids()}
    reports = []
    for model in (convert_tiny(ann), snn):
        with SpikeMonitor(model) as monitor:
            run(model, "accumulated", **batch)
        reports.append(energy_report(monitor))
    long, short = reports
    for accounting in long.accountings:
        assert short.total_pj(accounting, "ann") == pytest.approx(long.total_pj(accounting, "ann"), rel=1e-12)
    assert short.total_pj("level_aware", "snn") < long.total_pj("level_aware", "snn")
    # A square takes a spike twice; gains make sums of both operands, of which the scale meets all 32 channels.
    reached = {"centred_node": 4, "scale_node": 2 * 32}
    expected = 0
    for row in (row.operations for row in short.rows if row.kind == "norm"):
        expected += sum(monitor.sites[f"{row.name}.{node}"].spikes * each for node, each in reached.items())
    assert sum(row.operations.synaptic_operations for row in short.rows if row.kind == "norm") == expected
    states = sum(row.operations.states for row in short.rows)
    assert states == sum(counts.neurons for counts in monitor.sites.values())
    coding = [counts for counts in monitor.sites.values() if isinstance(counts.site.node, CodingHGNode)]
    pooled = [counts for site, counts in monitor.sites.items() if site == "pooler.activation.node"]
    assert sum(row.operations.biases for row in short.rows) == sum(counts.neurons for counts in (*coding, *pooled))


def test_an_activation_feeds_the_next_layer() -> None:
    """GELU of 30 tokens with 128 channels, whose spikes each come to the 32 outputs of the layer that follows."""
    snn = _pair("gpt2")[1]
    with SpikeMonitor(snn) as monitor:
        run(snn, "accumulated", input_ids=token_ids())
    counts = monitor.sites["transformer.h.0.mlp.act.node"]
    assert counts.neurons == 30 * 128
    rows = {row.name: row.operations for row in energy_report(monitor).rows}
    row = rows["transformer.h.0.mlp.act"]
    assert (row.kind, row.macs, row.spikes) == ("projection", 30 * 128 * 32, counts.spikes)
    assert row.synaptic_operations == counts.spikes * 32
    assert row.additions == 30 * 32  # the bias of each output
    assert rows["transformer.h.0.mlp.act.activation"].native == {"gelu_tanh": 30 * 128}
    assert isinstance(snn.transformer.h[0].mlp.c_proj, FedLinear)
    assert not isinstance(snn.transformer.h[0].mlp.c_proj, SpikingLinear)


def test_a_gate_is_coded_where_it_is_computed() -> None:
    snn = _pair("llama")[1]
    with SpikeMonitor(snn) as monitor:
        run(snn, "accumulated", input_ids=token_ids())
    rows = {row.name: row.operations for row in energy_report(monitor).rows}
    row, counts = rows["model.layers.0.mlp.act_fn.product"], monitor.sites["model.layers.0.mlp.act_fn.node"]
    assert (row.kind, row.macs, row.synaptic_operations) == ("gate", 30 * 64, counts.spikes)
    assert "model.layers.0.mlp.gate_node" not in monitor.sites


def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    snn = _pair(name)[1]
    snn.save_pretrained(tmp_path)
    loaded = type(MODELS[name]()).from_pretrained(tmp_path)
    assert loaded.config.quantization_config.settings.fewer_stages
    for (site, first), (_, second) in zip(named_sites(snn), named_sites(loaded), strict=True):
        if isinstance(first.node, CodingHGNode):
            assert (first.node.low, first.node.high) == (second.node.low, second.node.high), site
    for execution in EXECUTIONS:
        first, second = (run(model, execution, input_ids=token_ids())[0] for model in (snn, loaded))
        assert torch.equal(first, second)


def test_other_checkpoints_have_no_entry_for_it(tmp_path: Path) -> None:
    convert_tiny(ONE_BLOCK["gpt2"]()).save_pretrained(tmp_path)
    assert "fewer_stages" not in (tmp_path / "config.json").read_text()


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_generates_as_the_ann(execution: str) -> None:
    ann, snn = _pair("llama")
    las_sj.set_execution(snn, execution)
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    prompt = token_ids(2, 6)
    expected = ann.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
    assert torch.equal(snn.generate(prompt, attention_mask=torch.ones_like(prompt), **options), expected)


@pytest.mark.parametrize(("name", "pattern"), [("gpt2", "*.mlp.act"), ("gpt2", "*.mlp.c_proj"), ("llama", "*.act_fn")])
def test_layers_beside_an_analog_part_code_their_own_input(name: str, pattern: str) -> None:
    ann = ONE_BLOCK[name]()
    snn = convert_tiny(ann, fewer_stages=True, keep_analog=[pattern])
    assert not any(isinstance(module, CodedActivation) for module in snn.modules())
    with torch.no_grad():
        expected = ann(token_ids())[0]
    for execution in EXECUTIONS:
        assert relative_error(run(snn, execution, input_ids=token_ids())[0], expected) < 3e-4


def test_single_thresholds_and_powers_of_two_reach_all_neurons() -> None:
    snn = convert_tiny(ONE_BLOCK["llama"](), fewer_stages=True, outlier_aware=False, power_of_two_units=True)
    nodes = [site.node for _, site in named_sites(snn)]
    coding = [node for node in nodes if isinstance(node, CodingHGNode)]
    assert len(coding) == 6  # exp, 1/x, three norms, silu
    assert all(isinstance(node, CodingHGNode | MTNode) for node in nodes)
    for node in coding:
        assert torch.equal(node.theta_normal, node.theta_outlier)
        assert float(torch.log2(node.theta_normal / 15)) % 1 == 0
    assert any(isinstance(site.node, OATNode) for _, site in named_sites(_pair("llama")[1]))


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_half_precision(execution: str) -> None:
    ann = ONE_BLOCK["llama"]().to(torch.bfloat16)
    snn = convert_tiny(ann, fewer_stages=True)
    with torch.no_grad():
        expected = ann.float()(token_ids())[0]
    assert relative_error(run(snn, execution, input_ids=token_ids())[0], expected) < 2e-2


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_gradients_are_those_of_the_ann(execution: str) -> None:
    ann, snn = ONE_BLOCK["llama"](), convert_tiny(ONE_BLOCK["llama"](), fewer_stages=True)
    las_sj.set_execution(snn, execution)
    found = []
    for model in (ann, snn):
        model(input_ids=token_ids(), labels=token_ids()).loss.backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert all(relative_error(found[1][name], gradient) < 0.02 for name, gradient in found[0].items())


def test_gained_product_is_the_product_times_gains() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(5, 3, 4, generator=generator), torch.randn(5, 3, 1, generator=generator)
    gains = torch.randn(4, generator=generator)
    assert torch.allclose(gained_product(a, b, gains), spiking_product(a, b) * gains, atol=1e-5)


def test_refused_by_operations() -> None:
    with pytest.raises(ValueError, match="leave out by_operations"):
        las_sj.LASConfig(fewer_stages=True, by_operations=True)
    with pytest.raises(UnsupportedModelError, match="fewer_stages is for models of known families"):
        las_sj.convert(
            nn.Sequential(nn.Linear(4, 4)), las_sj.LASConfig(fewer_stages=True), [{"input": torch.ones(2, 4)}]
        )


def test_the_audit_looks_at_what_is_emitted() -> None:
    """Neurons that emitted the line itself, and not its code, would make a product of analog operands."""
    snn = convert_tiny(ONE_BLOCK["llama"](), fewer_stages=True, time_steps=4, headroom=2.0)
    node = snn.model.layers[0].mlp.act_fn.node

    class Analog(CodingHGNode):
        def multi_step_forward(self, x_seq: torch.Tensor, fan_out: object = None) -> torch.Tensor:
            return self.line(x_seq.sum(0)).expand_as(x_seq) / len(x_seq)

        def expected_train(self, x_seq: torch.Tensor) -> torch.Tensor:
            return self.multi_step_forward(x_seq)

    node.__class__ = Analog
    assert [row.module for row in audit(snn, {"input_ids": token_ids(1, 4)}).analog] == ["model.layers.0.mlp"]


def test_families_name_an_activation_and_the_layer_after_it() -> None:
    """Of every family that names some."""
    found = set()
    for architecture in WITH_PLAIN_BLOCKS:
        ann = TINY_MODELS[architecture].build()
        named = family_of_config(ann.config).activated
        for module in ann.modules():
            if type(module).__name__ in named:
                activation, layer = (module.get_submodule(part) for part in named[type(module).__name__])
                assert hg_function(activation) is not None
                assert isinstance(layer, nn.Linear | Conv1D)
                found.add(type(module).__name__)
    assert found == {kind for family in FAMILIES.values() for kind in family.activated}
