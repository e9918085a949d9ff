"""An audit of a network of rate codes: what is analog in it, and that its neurons are what they say."""

from typing import Any

import pytest
import torch
from tiny_models import bert, gpt2, llama, run, token_ids
from tiny_rate_codes import METHODS, convert_to_rates
from torch import Tensor

import las_sj
from las_sj.analysis import SpikeMonitor, audit
from las_sj.analysis.auditing.classes import NEURON_UPDATE, SPIKE_ACCUMULATED, SPIKE_WEIGHT
from las_sj.neurons.rate_coded import CalibratedIFNode, QCFSIFNode

BATCH = {"input_ids": token_ids(1, 5)}


def synaptic_operations(snn: Any) -> int:
    with SpikeMonitor(snn) as monitor:
        run(snn, "temporal", **BATCH)
    return sum(
        counts.spikes * max(counts.site.fan_out, 1)
        for name, counts in monitor.sites.items()
        if not name.startswith("pooler")  # which nothing follows
    )


@pytest.mark.parametrize("method", METHODS)
def test_layers_after_neurons_see_spikes(method: str) -> None:
    """As many operations as the monitor counts, and no more."""
    snn = convert_to_rates(gpt2(), method=method)
    found = audit(snn, BATCH)
    lanes = 8 if method == "srp" else 4
    assert found.counts[SPIKE_WEIGHT] == synaptic_operations(snn) > 0
    assert found.counts[NEURON_UPDATE] == lanes * 2 * 5 * 128
    assert {row.module for row in found.rows if row.kind == SPIKE_WEIGHT} == {
        f"transformer.h.{layer}.mlp.c_proj" for layer in (0, 1)
    }


def test_what_is_analog_has_its_module_and_place() -> None:
    found = audit(convert_to_rates(gpt2(n_layer=1)), BATCH)
    assert not found.fully_spike_driven
    assert [row.module for row in found.analog] == [
        "transformer.h.0.ln_1",
        "transformer.h.0.attn.c_attn",
        "transformer.h.0.attn",
        "transformer.h.0.attn.c_proj",
        "transformer.h.0.ln_2",
        "transformer.h.0.mlp.c_fc",
        "transformer.ln_f",
        "lm_head",
    ]
    assert all(row.place for row in found.analog)
    assert not found.decisions
    products = {row.module: row.count for row in found.analog}
    assert products["transformer.h.0.mlp.c_fc"] == 4 * 5 * 32 * 128


def test_gates_multiply_spikes() -> None:
    snn = convert_to_rates(llama())
    found = audit(snn, BATCH)
    assert found.counts[SPIKE_ACCUMULATED] == synaptic_operations(snn) > 0
    assert any(row.module.endswith("down_proj") for row in found.analog)


def test_calibrated_thresholds_of_channels_are_spikes_too() -> None:
    snn = convert_to_rates(bert(num_hidden_layers=1))
    activation = snn.encoder.layer[0].intermediate.intermediate_act_fn
    theta = activation.node.theta.detach() * (0.5 + torch.rand(64))
    node = CalibratedIFNode(theta, beta=torch.rand(64), step_mode="m")
    node.is_windowed, node.time_steps = True, 4
    activation.node = node
    found = audit(snn, BATCH)
    assert found.counts[SPIKE_WEIGHT] == synaptic_operations(snn) > 0
    assert not any(row.module.endswith("output.dense") and "0.output" in row.module for row in found.analog)


class Louder(QCFSIFNode):
    """Emits what its neurons are not defined to emit."""

    def multi_step_forward(self, x_seq: Tensor, first_position: int = 0) -> Tensor:
        return 1 - super().multi_step_forward(x_seq, first_position)


def test_neurons_that_emit_something_else_are_found() -> None:
    snn = convert_to_rates(gpt2(n_layer=1))
    snn.transformer.h[0].mlp.act.node.__class__ = Louder
    found = audit(snn, BATCH)
    (row,) = [row for row in found.analog if row.module == "transformer.h.0.mlp.act.node"]
    assert row.operator == "not what its neurons emit for its input"


def test_other_values_are_no_spikes() -> None:
    """A hook that scales what the neurons emit makes a layer multiply real numbers."""
    snn = convert_to_rates(gpt2(n_layer=1))
    snn.transformer.h[0].mlp.act.register_forward_hook(lambda module, args, output: output * 0.7)
    assert any(row.module == "transformer.h.0.mlp.c_proj" for row in audit(snn, BATCH).analog)


def test_execution_is_left_as_it_was() -> None:
    snn = convert_to_rates(gpt2(n_layer=1))
    las_sj.set_execution(snn, "accumulated")
    assert audit(snn, BATCH).counts[SPIKE_WEIGHT] > 0
    assert las_sj.models.execution_of(snn).name == "accumulated"
