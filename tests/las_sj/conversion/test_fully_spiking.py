"""Networks of quantised activations in which all else spikes too, by LAS."""

import copy
from typing import Any

import pytest
import torch
from fully_spiking_models import FED, LEVELS, MODELS, fully_spiking, quantised, quantisers_of
from tiny_models import EXECUTIONS, Model, calibration_batches, padding_mask, relative_error, run, token_ids
from torch import nn

import las_sj
from las_sj.analysis import SpikeMonitor, audit
from las_sj.conversion.structure import check_structure, probe_of, record_outputs
from las_sj.models import named_sites
from las_sj.models.execution import execution_of, is_converted
from las_sj.models.layers.linear import FedLinear, FedReadout, SpikingLinear
from las_sj.models.rate_coded.network import is_rate_coded, named_activations
from las_sj.models.rate_coded.sites import consumers_of
from las_sj.neurons.rate_coded import QCFSWindowNode
from las_sj.neurons.rate_coded.quantizer import continuous_quantisers

BATCH = {"input_ids": token_ids(), "attention_mask": padding_mask("right")}
LIVE = BATCH["attention_mask"].bool()


def logits(model: Model, execution: str | None = None) -> torch.Tensor:
    """Of tokens that are no padding."""
    with torch.no_grad():
        output = (model(**BATCH) if execution is None else run(model, execution, **BATCH)).logits
    return output[LIVE] if output.dim() == 3 else output


@pytest.fixture(scope="module", params=list(MODELS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def ann(name: str) -> Model:
    return quantised(MODELS[name]())


@pytest.fixture(scope="module")
def snn(ann: Model) -> Model:
    return fully_spiking(ann)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_it_is_the_quantised_ann_but_for_the_error_of_codes(ann: Model, snn: Model, execution: str) -> None:
    assert relative_error(logits(snn, execution), logits(ann)) < 1e-3


def test_with_fewer_steps_than_levels_it_is_the_ann_of_so_many_levels(ann: Model, name: str) -> None:
    coarse = copy.deepcopy(ann)
    for quantizer in quantisers_of(coarse).values():
        quantizer.levels = 2
    reference, others = logits(coarse), logits(ann)
    factory = las_sj.LASConfig(time_steps=16)
    snn = las_sj.convert(copy.deepcopy(ann), factory, calibration_batches())
    for _, site in named_sites(snn):
        if isinstance(site.node, QCFSWindowNode):
            site.node.time_steps = 2  # the others keep theirs, so that their error does not cover it
    found = logits(snn, "accumulated")
    assert relative_error(found, reference) < 1e-3 < relative_error(others, reference)


def test_both_executions_spike_alike(snn: Model) -> None:
    counts = {}
    for execution in EXECUTIONS:
        with SpikeMonitor(snn) as monitor:
            outputs = logits(snn, execution)
        counts[execution] = (outputs, {name: site.spikes for name, site in monitor.sites.items() if "act" in name})
    (first, spikes), (other, others) = counts.values()
    assert relative_error(first, other) < 1e-3
    for site, number in spikes.items():
        assert abs(number - others[site]) <= 5e-3 * number + 2


def test_it_is_fully_spike_driven(snn: Model) -> None:
    found = audit(snn, {"input_ids": token_ids(2, 5)})
    assert found.fully_spike_driven, found.analog
    assert snn.las_coverage.analog == {}
    assert "QCFSQuantizer" in snn.las_coverage.spiking


def test_an_audit_sees_what_is_no_spike(snn: Model, name: str) -> None:
    if name not in FED:
        pytest.skip("its activations go into a product of coded values")
    activation, layer = FED[name]
    handle = snn.get_submodule(f"{activation}.node").register_forward_hook(lambda module, args, output: output * 1.01)
    try:
        found = audit(snn, {"input_ids": token_ids(2, 5)})
    finally:
        handle.remove()
    assert not found.fully_spike_driven
    assert any(row.module == layer for row in found.analog)


def test_the_layer_after_an_activation_takes_its_spikes(snn: Model, name: str) -> None:
    nodes = {site_name: site for site_name, site in named_sites(snn) if isinstance(site.node, QCFSWindowNode)}
    assert len(nodes) == len(quantisers_of(snn))
    if name not in FED:
        assert {site.feeds for site in nodes.values()} == {"neuron"}
        return
    activation, layer = FED[name]
    fed, site = snn.get_submodule(layer), nodes[f"{activation}.node"]
    assert isinstance(fed, FedLinear)
    assert not isinstance(fed, SpikingLinear)
    assert not hasattr(fed, "input_node")
    assert site.feeds == "weights"
    assert site.fan_out == 32
    assert site.synapses[0].is_mac
    assert site.synapses[0].bias


def test_thresholds_stay_what_they_were_trained_to(ann: Model, snn: Model) -> None:
    trained = {name: module.theta.item() for name, module in quantisers_of(ann).items()}
    assert {name: module.theta.item() for name, module in quantisers_of(snn).items()} == trained
    assert len(set(trained.values())) == len(trained)


def test_an_output_layer_may_take_spikes() -> None:
    """That of a classifier on a pooler whose activation is quantised."""
    snn = fully_spiking(MODELS["bert"]())
    assert isinstance(snn.classifier, FedReadout)
    assert not isinstance(snn.classifier, SpikingLinear)
    with torch.no_grad():
        loss = snn(**BATCH, labels=torch.tensor([0, 1, 2])).loss
    assert loss.isfinite()


@pytest.mark.parametrize("kind", ["fas", "qcfs", "srp", "cos"])
def test_a_network_of_rate_codes_becomes_one(kind: str) -> None:
    """With the thresholds that it has, whichever the method."""
    config = las_sj.FASConfig(levels=LEVELS, time_steps=4, method=kind)
    model = las_sj.convert(MODELS["gpt2"](), config, calibration_batches())
    with torch.no_grad():
        for number, (_, activation) in enumerate(named_activations(model)):
            activation.theta.mul_(1.1 + number)
    trained = {name: activation.theta.item() for name, activation in named_activations(model)}
    expected = logits(model, "accumulated")
    las_sj.convert(model, las_sj.FASConfig(levels=LEVELS, time_steps=16, fully_spiking=True), calibration_batches())
    assert not is_rate_coded(model)
    assert {name: module.theta.item() for name, module in quantisers_of(model).items()} == trained
    assert relative_error(logits(model, "accumulated"), expected) < 1e-3


def test_settings_of_las_do_the_same() -> None:
    ann = quantised(MODELS["gpt2"]())
    first = fully_spiking(ann, 12)
    other = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(time_steps=12), calibration_batches())
    for execution in EXECUTIONS:
        assert torch.equal(logits(first, execution), logits(other, execution))


def test_sites_that_no_pattern_names_have_neurons_of_the_original_function() -> None:
    snn = fully_spiking(MODELS["gpt2"](), sites=("transformer.h.1.*",))
    assert list(quantisers_of(snn)) == ["transformer.h.1.mlp.act"]
    assert audit(snn, {"input_ids": token_ids(1, 4)}).fully_spike_driven
    assert isinstance(snn.transformer.h[0].mlp.c_proj, SpikingLinear)


@pytest.mark.parametrize("kept", FED["gpt2"])
def test_either_side_may_stay_analog(kept: str) -> None:
    """The activation, which then emits no spikes, or the layer after it, which then runs on sums."""
    ann = quantised(MODELS["gpt2"]())
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(keep_analog=(kept,)), calibration_batches())
    assert list(snn.las_coverage.analog) == [kept]
    for execution in EXECUTIONS:
        assert relative_error(logits(snn, execution), logits(ann)) < 1e-3


def test_the_check_of_the_structure_is_not_decided_by_rounding() -> None:
    """All inputs of the activations lie where half a level decides: rounding errors would flip any of them."""
    ann = quantised(MODELS["gpt2"]())
    with torch.no_grad():
        for block in ann.transformer.h:
            block.mlp.c_fc.weight.zero_()
            block.mlp.c_fc.bias.fill_(block.mlp.act.theta.item() * 2.5 / LEVELS)
    snn = fully_spiking(ann)
    assert is_converted(snn)


def test_a_wrong_threshold_is_seen_by_the_check_of_the_structure() -> None:
    ann, probe = quantised(MODELS["gpt2"]()), probe_of(calibration_batches()[0])
    snn = fully_spiking(ann)
    las_sj.set_execution(snn, "accumulated")
    with continuous_quantisers():
        expected = record_outputs(ann, probe)
        check_structure(snn, probe, expected)
        snn.transformer.h[1].mlp.act.theta.data.mul_(0.5)
        with pytest.raises(las_sj.StructureError, match=r"transformer\.h\.1\.mlp\.act"):
            check_structure(snn, probe, expected)


class _Stops:
    def __iter__(self) -> Any:
        yield calibration_batches()[0]
        raise KeyboardInterrupt


@pytest.mark.parametrize("of_rate_codes", [False, True])
def test_the_model_is_as_it_was_after_an_error(of_rate_codes: bool) -> None:
    model = MODELS["gpt2"]()
    if of_rate_codes:
        las_sj.convert(model, las_sj.FASConfig(levels=LEVELS, time_steps=4), calibration_batches())
    expected = logits(model)
    names = {name: type(module) for name, module in model.named_modules()}
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    bad = [calibration_batches()[0], {"input_ids": torch.full((2, 5), 9999)}]
    for batches, error in ((_Stops(), KeyboardInterrupt), (bad, IndexError)):
        with pytest.raises(error):
            las_sj.convert(model, las_sj.LASConfig() if of_rate_codes else _config(), batches)
        assert {name: type(module) for name, module in model.named_modules()} == names
        assert model.state_dict().keys() == state.keys()
        assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
        assert is_rate_coded(model) == of_rate_codes
        assert torch.equal(logits(model), expected)


def _config() -> las_sj.FASConfig:
    return las_sj.FASConfig(levels=LEVELS, time_steps=8, fully_spiking=True)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_it_is_trained_with_its_thresholds(execution: str) -> None:
    ann = quantised(MODELS["gpt2"]())
    snn = fully_spiking(ann)
    las_sj.set_execution(snn, execution)
    ids = token_ids()
    gradients = []
    for model in (ann, snn):
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        gradients.append([module.theta.grad for module in quantisers_of(model).values()])
        gradients[-1].append(model.transformer.h[0].mlp.c_fc.weight.grad)
    for expected, found in zip(*gradients, strict=True):
        assert relative_error(found, expected) < 0.05


def test_half_precision() -> None:
    ann = quantised(MODELS["gpt2"]())
    snn = fully_spiking(ann.to(torch.bfloat16))
    thetas = {module.theta.dtype for module in quantisers_of(snn).values()}
    assert thetas == {torch.float32}
    for execution in EXECUTIONS:
        assert relative_error(logits(snn, execution).float(), logits(ann).float()) < 0.1


def test_generation() -> None:
    ann = quantised(MODELS["gpt2"]())
    snn = fully_spiking(ann)
    prompt = {"input_ids": token_ids(2, 5), "attention_mask": torch.ones(2, 5, dtype=torch.long)}
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    for execution in EXECUTIONS:
        las_sj.set_execution(snn, execution)
        assert torch.equal(snn.generate(**prompt, **options), ann.generate(**prompt, **options))


def test_copies_are_independent() -> None:
    snn = fully_spiking(MODELS["gpt2"]())
    other = copy.deepcopy(snn)
    with torch.no_grad():
        quantisers_of(other)["transformer.h.0.mlp.act"].theta.mul_(2)
    first, second = (quantisers_of(model)["transformer.h.0.mlp.act"].theta for model in (snn, other))
    assert second.item() == 2 * first.item()
    assert execution_of(other) is not execution_of(snn)
    assert relative_error(logits(other), logits(snn)) > 1e-3


class TwoWays(nn.Module):
    """A layer that takes the output of an activation in one place, and something else in another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.act = nn.Linear(8, 8), nn.Linear(8, 8), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.shared(self.act(self.first(x))) + self.shared(x)
        return y


def test_a_layer_with_other_inputs_is_not_fed() -> None:
    assert consumers_of(TwoWays(), ["act"], {"x": torch.randn(3, 8)}) == {}
