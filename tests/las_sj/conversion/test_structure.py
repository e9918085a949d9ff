"""A layer that does not compute what the ANN computes is found, and named."""

import copy
from typing import Any

import pytest
import torch
from tiny_models import MODELS, bert, calibration_batches, gpt2, llama, token_ids
from torch import Tensor, nn

import las_sj
from las_sj import StructureError
from las_sj.conversion.structure import check_structure, probe_of, record_outputs
from las_sj.models import sees_currents
from las_sj.models.layers.activation import SpikingActivation
from las_sj.models.layers.embedding import SpikingEmbedding
from las_sj.models.layers.gated_mlp import SpikingGatedMLP
from las_sj.models.layers.linear import FedLinear, SpikingReadout
from las_sj.models.layers.norm import SpikingLayerNorm, SpikingRMSNorm
from las_sj.models.layers.spiking_layer import SpikingLayer


def uncentred(self: SpikingLayerNorm, x: Tensor) -> Tensor:
    return x


def whole_at_every_step(self: nn.Embedding, ids: Tensor) -> Tensor:
    return nn.Embedding.forward(self, ids)


def whole_constant(self: SpikingLayer, constant: Any) -> Any:
    return constant


def no_constant(self: SpikingLayer, constant: Any) -> Any:
    return constant * 0


def of_wrong_sign(self: FedLinear, spikes: Tensor) -> Tensor:
    return -torch.nn.functional.linear(spikes, self.weight.t(), self.per_step(self.bias))


def at_each_step(self: SpikingActivation, x: Tensor) -> Tensor:
    return self.node.exact(x)


def last_step_only(self: SpikingReadout, x: Tensor) -> Tensor:
    if not self.execution.temporal:
        return FedLinear.forward(self, x)
    return torch.nn.functional.linear(self.execution.split_time(x)[-1], self.weight)


def product_of_each_step(self: SpikingGatedMLP, x: Tensor) -> Tensor:
    return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


# Model, layer, attribute, what replaces it, the module named.
SABOTAGE: dict[str, tuple[str, type, str, Any, str]] = {
    "norm": ("bert", SpikingLayerNorm, "centre", uncentred, r"embeddings\.LayerNorm \(SpikingLayerNorm\)"),
    "embedding": ("gpt2", SpikingEmbedding, "forward", whole_at_every_step, r"transformer\.wte "),
    "bias": ("gpt2", FedLinear, "per_step", whole_constant, r"transformer\.h\.0\.attn\.c_attn "),
    "epsilon": ("llama", SpikingRMSNorm, "epsilon", 0.5, r"model\.layers\.0\.input_layernorm "),
    "sign": ("gpt2", FedLinear, "_synapses", of_wrong_sign, r"transformer\.h\.0\.attn\.c_attn "),
    "no bias": ("gpt2", FedLinear, "per_step", no_constant, r"transformer\.h\.0\.attn\.c_attn "),
    "activation": ("gpt2", SpikingActivation, "forward", at_each_step, r"transformer\.h\.0\.mlp\.act "),
    "readout": ("llama", SpikingReadout, "forward", last_step_only, "lm_head "),
    "gate": ("llama", SpikingGatedMLP, "forward", product_of_each_step, r"model\.layers\.0\.mlp.*"),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", list(SABOTAGE))
def test_sabotage(case: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    name, layer, attribute, wrong, module = SABOTAGE[case]
    model = MODELS[name]().to(dtype)
    las_sj.convert(copy.deepcopy(model), None, calibration_batches())  # nothing is found where nothing is wrong
    monkeypatch.setattr(layer, attribute, wrong)
    with pytest.raises(StructureError, match=f"^{module}.*differs from"):
        las_sj.convert(model, None, calibration_batches())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fault_of_one_part_in_a_thousand_is_found_in_a_deep_model(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs of bf16 are further from one another than that; what is computed in single precision is not."""
    model = llama(num_hidden_layers=8).to(dtype)
    forward = SpikingRMSNorm.forward

    def slightly_wrong(self: SpikingRMSNorm, x: Tensor) -> Tensor:
        return forward(self, x) * (1.001 if self is last else 1.0)

    last = model.model.layers[7].input_layernorm
    monkeypatch.setattr(SpikingRMSNorm, "forward", slightly_wrong)
    with pytest.raises(StructureError, match=r"^model\.layers\.7\.input_layernorm .*differs from the ANN: 1\.0e-03"):
        las_sj.convert(model, None, calibration_batches())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_each_module_receives_what_it_receives_in_the_ann(dtype: torch.dtype) -> None:
    """The modules after a layer that is slightly off are compared as if it were not."""
    model = llama(num_hidden_layers=2).to(dtype)
    probe = probe_of(calibration_batches()[0])
    expected = record_outputs(model, probe)
    snn = las_sj.convert(model, None, calibration_batches())
    las_sj.set_execution(snn, "accumulated")
    with torch.no_grad():
        for tensor in expected["model.embed_tokens"]:
            tensor[:, :, 0] *= 1 + 5e-5  # within tolerance
    received: dict[str, Tensor] = {}
    handle = snn.model.layers[0].input_layernorm.register_forward_pre_hook(
        sees_currents(lambda module, args: received.setdefault(str(module.execution.temporal), args[0].detach()))
    )
    check_structure(snn, probe, expected)
    handle.remove()
    assert torch.equal(received["False"], expected["model.embed_tokens"][0])
    in_time = received["True"].unflatten(0, (16, -1))
    torch.testing.assert_close(in_time.sum(0), expected["model.embed_tokens"][0])
    assert not torch.allclose(in_time[0], in_time[1])  # of uneven shares


def test_the_weights_of_a_half_precision_model_stay_where_and_what_they_are() -> None:
    model = llama().to(torch.bfloat16)
    before = {name: tensor.data_ptr() for name, tensor in model.named_parameters()}
    snn = las_sj.convert(model, None, calibration_batches())
    after = dict(snn.named_parameters())
    assert {after[name].dtype for name in before} == {torch.bfloat16}
    assert {name: after[name].data_ptr() for name in before} == before


def test_shape() -> None:
    model = gpt2()
    probe = probe_of(calibration_batches()[0])
    expected = record_outputs(model, probe)
    expected["lm_head"][0] = expected["lm_head"][0][:, :3]
    snn = las_sj.convert(model, None, calibration_batches())
    las_sj.set_execution(snn, "accumulated")
    with pytest.raises(StructureError, match="lm_head returns shape"):
        check_structure(snn, probe, expected)


@pytest.mark.parametrize("build", [bert, gpt2, llama])
def test_differences_are_small_and_coding_is_back(build: Any) -> None:
    model = build()
    probe = probe_of(calibration_batches()[0])
    expected = record_outputs(model, probe)
    snn = las_sj.convert(model, None, calibration_batches())
    las_sj.set_execution(snn, "accumulated")
    worst = check_structure(snn, probe, expected)
    assert set(worst) == {"accumulated", "temporal"}
    assert max(worst.values()) < 1e-5
    coded = record_outputs(snn, probe)
    common = coded.keys() & expected.keys()
    assert max(float((coded[name][0] - expected[name][0]).abs().max()) for name in common) > 1e-6


@pytest.mark.parametrize(("shape", "probe_shape"), [((4, 40), (2, 16)), ((1, 5), (2, 5)), ((3, 2), (2, 2))])
def test_probe(shape: tuple[int, int], probe_shape: tuple[int, int]) -> None:
    probe = probe_of({"input_ids": token_ids(*shape), "labels": token_ids(*shape)})
    assert probe["input_ids"].shape == probe["attention_mask"].shape == probe_shape
    assert set(probe) == {"input_ids", "attention_mask"}
    assert bool(probe["attention_mask"][0].all())
    assert not bool(probe["attention_mask"][1].all())


def test_probe_of_other_inputs() -> None:
    one = {"input_ids": token_ids(3, 1), "attention_mask": torch.ones(3, 1)}
    assert probe_of(one) == one
    embedded = {"inputs_embeds": torch.zeros(2, 4, 32)}
    assert probe_of(embedded) == embedded
