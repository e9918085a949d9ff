"""What a network of rate codes costs, against counts done by hand."""

import math
from typing import Any

import pytest
import torch
from tiny_models import bert, gpt2, llama, run, token_ids
from tiny_rate_codes import convert_to_rates, trains_of
from transformers import BertForSequenceClassification

from las_sj.analysis import EnergyReport, SpikeMonitor, audit, energy_report
from las_sj.models.rate_coded.network import named_activations
from las_sj.neurons.rate_coded import CalibratedIFNode

B, S, C, INNER, VOCABULARY, LAYERS = 3, 10, 32, 128, 100, 2
TOKENS = B * S
PRESENTED = {"fas": 4, "srp": 8, "cos": 8}  # T = 4, τ = ρ = 4
E_MAC, E_AC, E_BYTE = 4.6, 0.9, 24.96  # pJ


def measured(snn: Any, **batch: torch.Tensor) -> EnergyReport:
    with SpikeMonitor(snn) as monitor:
        run(snn, "temporal", **(batch or {"input_ids": token_ids(B, S)}))
    return energy_report(monitor)


@pytest.mark.parametrize("method", PRESENTED)
def test_gpt2_by_hand(method: str) -> None:
    """All but the second layer of each block runs whenever the input is presented."""
    snn = convert_to_rates(gpt2(), method=method)
    trains, report = trains_of(snn, input_ids=token_ids(B, S)), measured(snn)
    steps = PRESENTED[method]
    expected = {}
    for layer in range(LAYERS):
        block = f"transformer.h.{layer}"
        expected[f"{block}.attn"] = ("product", B * S * S * 2 * C)  # masked scores too
        expected[f"{block}.attn.c_attn"] = ("projection", TOKENS * C * 3 * C)
        expected[f"{block}.attn.c_proj"] = ("projection", TOKENS * C * C)
        expected[f"{block}.mlp.c_fc"] = ("projection", TOKENS * C * INNER)
        expected[f"{block}.mlp.c_proj"] = ("projection", TOKENS * INNER * C)
    expected["lm_head"] = ("head", TOKENS * C * VOCABULARY)
    assert {row.name: (row.kind, row.operations.macs) for row in report.rows} == expected
    spikes = {name: float(train.sum()) for name, train in trains.items()}
    for row in report.rows:
        counts = row.operations
        if row.name.endswith("mlp.c_proj"):
            found = spikes[row.name.replace("c_proj", "act.node")]
            emitted = found * (2 if method == "cos" else 1)  # ρ = T steps are looked ahead at
            assert (counts.analog_macs, counts.spikes, counts.synaptic_operations) == (0, found, emitted * C)
        else:
            assert (counts.analog_macs, counts.synaptic_operations) == (steps * counts.macs, 0)
    macs = sum(count for _, count in expected.values())
    fed = LAYERS * TOKENS * INNER * C
    operations = sum(row.operations.synaptic_operations for row in report.rows)
    paper = (E_MAC * steps * (macs - fed) + E_AC * operations) / (E_MAC * macs)
    assert report.ratio("paper") == pytest.approx(paper)
    assert report.ratio("paper") > steps * (macs - fed) / macs > 2


def test_level_aware_and_memory_by_hand() -> None:
    snn = convert_to_rates(gpt2(n_layer=1))
    report = measured(snn)
    (row,) = [row for row in report.rows if row.name.endswith("mlp.c_proj")]
    neurons, operations = TOKENS * INNER, row.operations.synaptic_operations
    biases = TOKENS * C
    assert row.snn_pj["level_aware"] == pytest.approx(E_AC * (operations + 4 * neurons + 4 * biases))
    assert row.snn_pj["with_memory"] == pytest.approx(
        row.snn_pj["level_aware"] + E_BYTE * 4 * (operations + 2 * 4 * neurons)
    )
    bits = math.ceil(math.log2(4 + 1))
    assert report.code_bits == bits == 3
    mac = E_AC + (E_MAC - E_AC) * bits / 32
    moved = 4 * row.operations.macs + 2 * neurons * bits / 8
    assert row.ann_pj["with_memory"] == pytest.approx(mac * row.operations.macs + E_BYTE * moved + E_AC * biases)
    (analog,) = [row for row in report.rows if row.name.endswith("mlp.c_fc")]
    assert analog.ann_pj["with_memory"] == pytest.approx((E_MAC + E_BYTE * 4) * analog.operations.macs)
    assert analog.snn_pj["with_memory"] == pytest.approx(4 * analog.ann_pj["with_memory"])


def test_gated_layers_see_real_numbers() -> None:
    report = measured(convert_to_rates(llama()))
    kinds = {row.name: row for row in report.rows if ".0.mlp." in row.name}
    down = kinds["model.layers.0.mlp.down_proj"].operations
    assert (down.macs, down.analog_macs, down.synaptic_operations) == (TOKENS * 64 * C, 4 * TOKENS * 64 * C, 0)
    gate = kinds["model.layers.0.mlp.act_fn"]
    assert gate.kind == "gate"
    assert gate.operations.synaptic_operations == gate.operations.spikes > 0
    assert report.ratio("paper") == pytest.approx(4)


def test_thresholds_of_positions_cost_multiplications() -> None:
    snn = convert_to_rates(gpt2(n_layer=1))
    whole = measured(snn)
    ((_, activation),) = named_activations(snn)
    theta = activation.node.theta.detach().expand(S, INNER)
    node = CalibratedIFNode(theta, step_mode="m")
    node.is_windowed, node.time_steps = True, 4
    activation.node = node
    report = measured(snn)
    fed = {row.name: row.operations for row in report.rows}["transformer.h.0.mlp.c_proj"]
    before = {row.name: row.operations for row in whole.rows}["transformer.h.0.mlp.c_proj"]
    assert (fed.analog_macs, fed.synaptic_operations) == (before.synaptic_operations, 0)
    found = audit(snn, {"input_ids": token_ids(1, 4)})
    assert any(row.module.endswith("mlp.c_proj") for row in found.analog)


def test_attention_kernels_count_alike() -> None:
    """torch's counter knows no fused attention of CPUs; padding makes for another kernel."""
    ann = bert(BertForSequenceClassification, num_labels=3)
    snn = convert_to_rates(ann)
    kernel = measured(snn)
    snn.set_attn_implementation("eager")
    plain = measured(snn)
    macs = {row.name: row.operations.macs for row in kernel.rows}
    assert macs == {row.name: row.operations.macs for row in plain.rows}
    assert macs["bert.encoder.layer.0.attention.self"] == B * S * S * 2 * C


def test_calls_add_up_and_failed_ones_end() -> None:
    snn = convert_to_rates(gpt2())
    with SpikeMonitor(snn) as monitor:
        with pytest.raises(IndexError):
            run(snn, "temporal", input_ids=token_ids() + VOCABULARY)
        run(snn, "temporal", input_ids=token_ids(1, 4))
        run(snn, "temporal", input_ids=token_ids(1, 4))
    macs = {row.name: row.operations.macs for row in energy_report(monitor).rows}
    assert macs["lm_head"] == 2 * 4 * C * VOCABULARY
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


def test_interrupted_calls_leave_nothing() -> None:
    snn = convert_to_rates(gpt2())

    def interrupt(module: Any, args: Any) -> None:
        raise KeyboardInterrupt

    snn.lm_head.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt), SpikeMonitor(snn):
        run(snn, "temporal", input_ids=token_ids())
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


def test_what_is_left_out_is_said() -> None:
    report = measured(convert_to_rates(gpt2(), method="srp"))
    text = report.to_markdown()
    assert all(formula in text for formula in report.formulas().values())
    assert "8 times (T = 4, 4 before, 0 looked ahead at)" in report.formulas()["analog"]
    assert "softmax" in report.formulas()["left out"]


def test_nothing_spikes_in_accumulated_calls() -> None:
    snn = convert_to_rates(gpt2())
    with SpikeMonitor(snn) as monitor:
        run(snn, "accumulated", input_ids=token_ids())
    with pytest.raises(ValueError, match="the only one in which rate codes spike"):
        energy_report(monitor)
