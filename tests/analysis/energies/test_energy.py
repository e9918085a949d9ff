"""Energies against sums done by hand, and counts of MACs against those of the original's own operations."""

import csv
import io
import json
import math
from typing import Any

import pytest
import torch
from spikingjelly.activation_based.op_counter import NeuromorphicMemoryAccessCounter
from spikingjelly.activation_based.op_counter.base import ModuleCounterMode
from tiny_models import MODELS, convert_tiny, padding_mask, run, token_ids
from torch import nn

from las_sj.analysis import EnergyCosts, EnergyReport, SpikeMonitor, audit, energy_report
from las_sj.analysis.energies.energy import ACCOUNTINGS
from las_sj.analysis.energies.operations import KINDS, Operations, count_operations, level_factor
from las_sj.analysis.energies.prices import EQUAL_LOSS

T = 8


def report_of(name: str, execution: str = "accumulated", costs: str = "fp32", **settings: Any) -> EnergyReport:
    snn = convert_tiny(MODELS[name](), time_steps=T, **settings)
    with SpikeMonitor(snn) as monitor:
        run(snn, execution, input_ids=token_ids())
    return energy_report(monitor, costs)


def chosen() -> list[Operations]:
    """Counts small enough to price by hand."""
    return [
        Operations("embed", "embedding", lookups=32),
        Operations(
            "layers.0.fc",
            "projection",
            neurons=10,
            spikes=7,
            macs=100,
            synaptic_operations=70,
            levelled_operations=140,
            additions=20,
            ann_additions=20,
            states=10,
            activations=10,
        ),
        Operations(
            "layers.0.scores",
            "scores",
            8,
            4,
            macs=50,
            synaptic_operations=30,
            levelled_operations=60,
            states=8,
            activations=4,
        ),
        Operations(
            "layers.0.act",
            "activation",
            5,
            9,
            native={"gelu": 5},
            synaptic_operations=9,
            levelled_operations=9,
            biases=5,
        ),
        Operations("layers.0.rope", "rope", additions=4, scalings=8, ann_additions=4, ann_scalings=8),
    ]


def test_energies_by_hand() -> None:
    report = EnergyReport(chosen(), EnergyCosts.preset("fp32"), time_steps=4, tokens=2, samples=1)
    assert report.total_pj("paper", "ann") == pytest.approx(4.6 * 150)
    assert report.total_pj("paper", "snn") == pytest.approx(0.9 * 100)
    native = 2.3 * 8 * 5
    dense = 0.9 * 20 + 0.9 * 4 + 3.7 * 8
    assert report.total_pj("level_aware", "ann") == pytest.approx(4.6 * 150 + native + dense)
    assert report.total_pj("level_aware", "snn") == pytest.approx(0.9 * (140 + 60 + 9 + 4 * 18 + 5) + 4 * dense)
    weight_mac, score_mac = 0.9 + 3.7 * 5 / 32, 0.9 + 3.7 * (5 / 32) ** 2
    moved = 100 * 4 + 50 * 5 / 8 + 2 * 14 * 5 / 8 + 32 * 4
    ann = weight_mac * 100 + score_mac * 50 + 24.96 * moved + native + dense
    assert report.total_pj("with_memory", "ann") == pytest.approx(ann)
    snn = report.total_pj("level_aware", "snn") + 24.96 * 4 * (109 + 2 * 4 * 18 + 32)
    assert report.total_pj("with_memory", "snn") == pytest.approx(snn)
    assert report.ratio("with_memory") == pytest.approx(snn / ann)
    assert report.rows[3].ann_pj["paper"] == pytest.approx(2.3 * 70 * 5)
    assert EQUAL_LOSS not in report.accountings


def test_equal_loss_is_a_column_where_it_was_measured() -> None:
    costs = EnergyCosts.preset("fp32")
    at_nine = EnergyReport(chosen(), costs, time_steps=4, tokens=2, samples=1, equal_loss_bits=9)
    nine_steps = EnergyReport(chosen(), costs, time_steps=8, tokens=2, samples=1)
    assert at_nine.total_pj(EQUAL_LOSS, "ann") == nine_steps.total_pj("with_memory", "ann")  # T + 1 = 9 bits
    assert at_nine.total_pj(EQUAL_LOSS, "snn") == at_nine.total_pj("with_memory", "snn")


@pytest.mark.parametrize(
    ("name", "mac", "ac", "bits"), [("fp32", 4.6, 0.9, 32), ("fp16", 1.5, 0.4, 16), ("int8", 0.23, 0.03, 8)]
)
def test_presets(name: str, mac: float, ac: float, bits: int) -> None:
    """Horowitz 2014: fp32 3.7 + 0.9, fp16 1.1 + 0.4, int8 0.2 + 0.03 pJ at 45 nm."""
    costs = EnergyCosts.preset(name)
    assert (costs.e_mac_pj, costs.e_ac_pj, costs.bits, costs.technology_nm) == (mac, ac, bits, 45)
    assert "Horowitz" in costs.source
    assert costs.quantised_mac_pj(bits) == pytest.approx(mac)
    assert costs.quantised_mac_pj(bits + 1) == pytest.approx(mac)  # no wider than the numbers are
    assert ac < costs.quantised_mac_pj(bits // 2, operands=2) < costs.quantised_mac_pj(bits // 2) < mac


def test_costs_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="energy costs must be one of fp32, fp16, int8, got 'fp8'"):
        EnergyCosts.preset("fp8")
    with pytest.raises(ValueError, match="e_ac_pj <= e_mac_pj"):
        EnergyCosts("mine", 32, e_mac_pj=1.0, e_ac_pj=2.0)
    with pytest.raises(ValueError, match="e_memory_pj_per_byte must be finite and not negative"):
        EnergyCosts("mine", 32, 4.6, 0.9, e_memory_pj_per_byte=math.nan)


@pytest.mark.parametrize(("levels", "factor"), [(1, 1), (3, 2), (5, 3), (7, 3), (10, 4), (12, 4), (15, 4), (16, 5)])
def test_level_factor(levels: int, factor: int) -> None:
    assert level_factor(levels) == factor


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_macs_are_those_of_the_original(name: str) -> None:
    """Projections and head: the matrix products that the original was seen to run."""
    ann = MODELS[name]()
    seen = {row.module: row.count for row in audit(ann, {"input_ids": token_ids()}).analog if "mm" in row.operator}
    rows = {row.name: row.macs for row in report_of(name).rows for row in [row.operations]}
    for module, macs in seen.items():
        assert rows[module] == macs, module
    assert len(seen) > 8


def test_attention_macs_without_masks() -> None:
    """BERT, no padding: each of 4 heads meets all pairs of 10 tokens, in 8 channels."""
    rows = {row.name: row.operations for row in report_of("bert").rows}
    for operator in ("scores", "values"):
        assert rows[f"encoder.layer.0.attention.self.{operator}"].macs == 3 * 4 * 10 * 10 * 8
    causal = {row.name: row.operations for row in report_of("gpt2").rows}
    assert causal["transformer.h.0.attn.scores"].macs == 3 * 4 * 55 * 8


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_both_executions_cost_the_same(name: str) -> None:
    snn = convert_tiny(MODELS[name](), time_steps=T).double()
    reports = []
    for execution in ("temporal", "accumulated"):
        with SpikeMonitor(snn) as monitor:
            run(snn, execution, input_ids=token_ids(), attention_mask=padding_mask("right"))
        reports.append(energy_report(monitor))
    assert reports[0].totals() == reports[1].totals()
    assert reports[0].to_csv() == reports[1].to_csv()


def test_rows_of_every_kind() -> None:
    # Nothing was kept analog; the other two are of models that were converted by operations.
    spiking = set(KINDS) - {"analog", "constant", "product", "dense"}
    assert {row.kind for row in report_of("llama").rows} == spiking
    assert {row.kind for row in report_of("bert").rows} == spiking - {"rope", "gate", "head"}


def test_groups_add_up() -> None:
    report = report_of("llama")
    for by in ("kind", "layer", "operator"):
        for accounting in ACCOUNTINGS[1:]:
            for side in ("ann", "snn"):
                total = sum(getattr(row, f"{side}_pj")[accounting] for row in report.grouped(by))
                assert total == pytest.approx(report.total_pj(accounting, side))
    layers = [row.name for row in report.grouped("layer")]
    assert layers == ["model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "lm_head"]
    assert len({row.name for row in report.rows}) == len(report.rows)


def test_totals_per_token_and_sample() -> None:
    report = report_of("bert")
    assert (report.tokens, report.samples) == (30, 3)
    entry = report.totals()["level_aware"]
    assert entry["snn_pj_per_token"] == pytest.approx(entry["snn_pj"] / 30)
    assert entry["ann_pj_per_sample"] == pytest.approx(entry["ann_pj"] / 3)
    assert entry["ratio"] == pytest.approx(entry["snn_pj"] / entry["ann_pj"])


def test_more_levels_cost_fewer_spikes_but_each_costs_more() -> None:
    one, fifteen = report_of("llama", levels=1), report_of("llama", levels=15)
    assert fifteen.ratio("paper") < one.ratio("paper")
    assert fifteen.ratio("level_aware") > one.ratio("level_aware")
    for row in fifteen.rows:
        if row.kind == "projection":
            assert row.operations.levelled_operations == 4 * row.operations.synaptic_operations
        if row.kind == "activation":
            assert row.operations.levelled_operations == row.operations.synaptic_operations  # HG spikes are binary


def test_formats() -> None:
    report = report_of("gpt2")
    rows = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert [row["operator"] for row in rows] == [row.name for row in report.rows]
    for row, expected in zip(rows, report.rows, strict=True):
        assert float(row["SNN with memory, µJ"]) == expected.snn_pj["with_memory"] * 1e-6
        assert float(row["ANN level aware, µJ"]) == expected.ann_pj["level_aware"] * 1e-6
    assert sum(int(row["MACs"]) for row in rows) == sum(row.operations.macs for row in report.rows)
    entry = json.loads(json.dumps(report.to_dict()))
    assert entry["totals"]["paper"]["ratio"] == report.ratio("paper")
    assert len(entry["operators"]) == len(rows)
    text = str(report)
    assert all(formula in text for formula in report.formulas().values())
    assert set(ACCOUNTINGS) <= set(report.formulas())
    assert "4.6 pJ" in report.formulas()["costs"]
    assert f"T = {T} steps" in report.formulas()["level_aware"]


def test_bad_arguments() -> None:
    report = report_of("bert")
    with pytest.raises(ValueError, match="accounting must be one of paper"):
        report.ratio("kind")
    with pytest.raises(ValueError, match="side must be ann or snn"):
        report.total_pj("paper", "both")
    with pytest.raises(ValueError, match="by must be one of kind"):
        report.grouped("site")
    with pytest.raises(ValueError, match="has seen no call"):
        energy_report(SpikeMonitor(convert_tiny(MODELS["bert"](), time_steps=2)))


def test_activations_of_the_ann() -> None:
    """Values that the ANN holds, not neurons of the SNN: one a channel for a norm, three for q, k and v."""
    rows = {row.name: row.operations for row in report_of("bert").rows}
    assert rows["embeddings.LayerNorm"].activations == 30 * 32
    assert rows["embeddings.LayerNorm"].states == 30 * (3 * 32 + 2)
    attention = "encoder.layer.0.attention.self"
    assert rows[f"{attention}.query"].activations == 30 * 32  # shared with key and value
    assert rows[f"{attention}.scores"].activations == 2 * 30 * 32
    assert rows[f"{attention}.values"].activations == 30 * 32 + 3 * 4 * 10 * 10
    assert rows[f"{attention}.softmax"].activations == 3 * 4 * 10 * 10
    assert rows[f"{attention}.softmax"].biases == 3 * 4 * 10 * (10 + 1)


def test_inputs_are_counted() -> None:
    snn = convert_tiny(MODELS["bert"](), time_steps=T)
    with SpikeMonitor(snn) as monitor:
        run(snn, "accumulated", input_ids=token_ids(), attention_mask=padding_mask("right"))
        run(snn, "accumulated", inputs_embeds=torch.randn(2, 5, 32))
        snn(token_ids(1, 4))
    assert monitor.tokens == 10 + 7 + 4 + 2 * 5 + 4
    assert monitor.samples == 3 + 2 + 1
    lookups = {row.name: row.lookups for row in count_operations(monitor) if row.kind == "embedding"}
    assert lookups["embeddings.word_embeddings"] == 35 * 32


def test_weights_read_as_spikingjelly_counts_them() -> None:
    """Its memory counter, for spikes in {0, 1} into a linear layer: 4 bytes of weight for each synaptic operation."""
    torch.manual_seed(0)
    linear, spikes = nn.Linear(12, 5, bias=False), (torch.rand(7, 12) < 0.3).float()
    counter = NeuromorphicMemoryAccessCounter()
    with ModuleCounterMode([counter], model=linear):
        linear(spikes)
    operations = 5 * int(spikes.sum())
    assert counter.get_counts()["Global"]["weight_read_bytes"] == 4 * operations
    row = Operations("fc", "projection", synaptic_operations=operations)
    costs = EnergyCosts("memory only", 32, e_mac_pj=1.0, e_ac_pj=0.0, e_memory_pj_per_byte=1.0)
    report = EnergyReport([row], costs, time_steps=1, tokens=1, samples=1)
    assert report.total_pj("with_memory", "snn") == 4 * operations
