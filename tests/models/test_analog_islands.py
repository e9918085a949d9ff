"""keep_analog: parts of a network that stay as they were."""

import copy

import pytest
import torch
from tiny_families import TINY_MODELS
from tiny_models import (
    EXECUTIONS,
    MODELS,
    calibration_batches,
    convert_tiny,
    padding_mask,
    relative_error,
    run,
    run_and_count,
    token_ids,
)

import las_sj
from las_sj.analysis import SpikeMonitor, energy_report
from las_sj.conversion.structure import bypassed_coding
from las_sj.models import named_sites

# Model, patterns, modules that stay analog.
CASES = {
    "mlp": ("llama", ("*.mlp",), {"model.layers.0.mlp", "model.layers.1.mlp"}),
    "attention": ("gpt2", ("*.0.attn",), {"transformer.h.0.attn"}),
    "attention of grouped heads": ("llama", ("*.self_attn",), {f"model.layers.{i}.self_attn" for i in (0, 1)}),
    "block": ("llama", ("model.layers.1",), {"model.layers.1"}),
    "encoder layer": ("bert", ("encoder.layer.0",), {"encoder.layer.0"}),
    "all but the readout": ("gpt2", ("transformer",), {"transformer"}),
    "one norm": ("gpt2", ("*.1.ln_2",), {"transformer.h.1.ln_2"}),
    "activations": ("gpt2", ("*.act",), {"transformer.h.0.mlp.act", "transformer.h.1.mlp.act"}),
    "readout": ("llama", ("lm_head",), {"lm_head"}),
    "pooler": ("bert", ("pooler.*",), {"pooler.dense", "pooler.activation"}),
    "two patterns": ("bert", ("pooler.dense", "*.0.output.dense"), {"pooler.dense", "encoder.layer.0.output.dense"}),
}


@pytest.mark.parametrize("case", list(CASES))
def test_islands(case: str) -> None:
    name, patterns, expected = CASES[case]
    ann = MODELS[name]()
    snn = convert_tiny(ann, keep_analog=patterns)
    assert set(snn.las_coverage.analog) == expected
    assert "by request" in next(iter(snn.las_coverage.analog.values()))
    assert not any(site.startswith(tuple(f"{module}." for module in expected)) for site, _ in named_sites(snn))
    mask = padding_mask("right")
    batch = {"input_ids": token_ids(), "attention_mask": mask}
    with torch.no_grad():
        reference = ann(**batch)[0]
    assert 0 < relative_error(run(snn, "accumulated", **batch)[0][mask.bool()], reference[mask.bool()]) < 3e-4
    snn.double()
    (temporal, spikes), (accumulated, counts) = (run_and_count(snn, execution, **batch) for execution in EXECUTIONS)
    assert temporal[0].shape == reference.shape
    assert relative_error(temporal[0], accumulated[0]) < 1e-9
    assert spikes == counts


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_bypassed_islands_are_the_ann(execution: str) -> None:
    ann = MODELS["gpt2"]()
    snn = convert_tiny(ann, keep_analog=("*.mlp.*", "*.ln_2")).double()
    ann.double()
    with bypassed_coding(snn), torch.no_grad():
        assert relative_error(run(snn, execution, input_ids=token_ids())[0], ann(token_ids())[0]) < 1e-10


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("no_such_module", "'no_such_module' names no module"),
        ("*", "no layer that can be converted"),
    ],
)
def test_patterns_that_cannot_be_followed(pattern: str, message: str) -> None:
    with pytest.raises(las_sj.UnsupportedModelError, match=message):
        las_sj.convert(MODELS["gpt2"](), las_sj.LASConfig(keep_analog=(pattern,)), calibration_batches())


@pytest.mark.parametrize(
    ("architecture", "name"),
    [("Gemma2ForCausalLM", "lm_head"), ("DistilBertForSequenceClassification", "pre_classifier")],
)
def test_layers_whose_output_is_bent_outside_cannot_stay(architecture: str, name: str) -> None:
    """Gemma 2 caps the logits, DistilBERT rectifies its classifier's first layer."""
    tiny = TINY_MODELS[architecture]
    with pytest.raises(las_sj.UnsupportedModelError, match=f"non-linearity to the output of {name}"):
        las_sj.convert(tiny.build(), las_sj.LASConfig(keep_analog=(name,)), [tiny.batch(2, 1)])


@pytest.mark.parametrize(
    ("architecture", "pattern", "message"),
    [
        ("LlavaForConditionalGeneration", "model.language_model", "holds the input embeddings"),
        ("Qwen2VLForConditionalGeneration", "model.*", "holds the input embeddings"),
        ("LlavaForConditionalGeneration", "model.vision_tower.encoder", "uses what lies inside"),
    ],
)
def test_parts_that_the_model_looks_into_cannot_stay(architecture: str, pattern: str, message: str) -> None:
    tiny = TINY_MODELS[architecture]
    with pytest.raises(las_sj.UnsupportedModelError, match=message):
        las_sj.convert(tiny.build(), las_sj.LASConfig(keep_analog=(pattern,)), [tiny.batch(2, 1)])


@pytest.mark.parametrize("pattern", ["model.visual.blocks.0", "model.visual.blocks.*.attn", "model.visual.merger"])
def test_parts_of_a_tower_with_images_in_a_row(pattern: str) -> None:
    tiny = TINY_MODELS["Qwen2VLForConditionalGeneration"]
    ann = tiny.build()
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(keep_analog=(pattern,)), [tiny.batch(2, 1)])
    with torch.no_grad():
        expected = ann(**tiny.batch(2, 3)).logits
    for execution in EXECUTIONS:
        assert 0 < relative_error(run(snn, execution, **tiny.batch(2, 3)).logits, expected) < 1e-3


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_energy_of_islands(execution: str) -> None:
    """The SNN pays the MACs of what stayed analog, as the ANN does; they are not among its synaptic operations."""
    snn = convert_tiny(MODELS["llama"](), keep_analog=("model.layers.0", "lm_head"))
    with SpikeMonitor(snn) as monitor:
        run(snn, execution, input_ids=token_ids())
    report = energy_report(monitor)
    rows = {row.name: row.operations for row in report.rows if row.kind == "analog"}
    tokens, hidden, keys, gate, heads = 30, 32, 16, 64, 4
    weights = hidden * (2 * hidden + 2 * keys + 3 * gate)
    attention = 2 * 3 * heads * 10 * 10 * (hidden // heads)  # eager attention multiplies masked scores too
    assert {name: row.macs for name, row in rows.items()} == {
        "model.layers.0": tokens * weights + attention,
        "lm_head": tokens * hidden * 100,
    }
    assert all(row.analog_macs == row.macs and row.synaptic_operations == 0 for row in rows.values())
    macs = sum(row.macs for row in rows.values())
    grouped = {row.name: row for row in report.grouped("kind")}["analog"]
    assert grouped.ann_pj["paper"] == grouped.snn_pj["paper"] == pytest.approx(4.6 * macs)
    assert grouped.snn_pj["with_memory"] > grouped.ann_pj["with_memory"]  # the ANN's activations are quantised
    with SpikeMonitor(snn):
        pass
    assert sum(counts.macs for counts in monitor.islands.values()) == macs
