"""python -m las_sj.convert: the default model, options, and an encoder."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Call, Finished, assert_one_line, contents
from conversions import FILES, start
from tiny_models import bert, run, save, token_ids
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertForSequenceClassification,
)

from las_sj import LASConfig
from las_sj.checkpoint.loading import default_model
from las_sj.models import execution_of
from las_sj.presets import settings_of


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished]:
    folder = tmp_path_factory.mktemp("default")
    tokens = ("--calibration-tokens", "1024", "--evaluation-tokens", "1024")
    return folder, start("--output", "out", *tokens, cwd=folder, anew=True)


@pytest.fixture(scope="module")
def report(converted: tuple[Path, Finished]) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((converted[0] / "out" / "las_report.json").read_text())
    return report


def test_default_model_ends_well(converted: tuple[Path, Finished]) -> None:
    folder, finished = converted
    assert finished.code == 0, finished.err
    assert finished.visible == []
    assert "perplexity, SNN" in finished.out
    assert "Written to out" in finished.out
    assert [path.name for path in folder.iterdir()] == ["out"]
    assert contents(folder / "out") >= {*FILES, "las_report.md", "raster.png"}


def test_default_model_quality(report: dict[str, Any]) -> None:
    ann, snn = (report["quality"][network]["perplexity"] for network in ("ann", "snn"))
    assert 2 < ann < 100
    assert snn == pytest.approx(ann, rel=1e-3)
    assert snn != ann
    assert 0 < report["quality"]["kl"] < 1e-5
    assert 0 < report["quality"]["relative_error"] < 1e-3
    assert 0 < report["temporal_vs_accumulated"] < 2 * report["quality"]["relative_error"]


def test_default_model_spikes(report: dict[str, Any]) -> None:
    assert 0.5 < report["spikes_per_neuron"] < 4  # ⌈16/5⌉ at most
    feeding = [site for site in report["sites"].values() if site["feeds"] == "weights"]
    synapses = sum(site["neurons"] * site["fan_out"] for site in feeding)
    spikes = sum(site["spikes_per_neuron"] * site["neurons"] * site["fan_out"] for site in feeding)
    assert report["spikes_per_neuron"] == pytest.approx(spikes / synapses)
    assert all(site["neurons"] > 0 for site in report["sites"].values())


def test_default_model_coverage(report: dict[str, Any]) -> None:
    assert report["coverage"]["analog"] == {}
    assert report["coverage"]["spiking"]["Conv1D"] == 16
    assert report["coverage"]["spiking"]["LayerNorm"] == 9


def test_default_model_raster(converted: tuple[Path, Finished]) -> None:
    content = (converted[0] / "out" / "raster.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(content) > 10_000


def test_default_model_names_no_place(converted: tuple[Path, Finished]) -> None:
    """Nothing in the output says where on this machine it was made."""
    folder = converted[0]
    for name in ("config.json", "las_report.json", "las_report.md", "tokenizer_config.json"):
        content = (folder / "out" / name).read_text()
        assert str(folder) not in content
        assert str(default_model()) not in content


def test_default_model_loads(converted: tuple[Path, Finished], report: dict[str, Any]) -> None:
    folder = converted[0] / "out"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ann = AutoModelForCausalLM.from_pretrained(default_model())
    assert execution_of(model).step_mode == "m"
    batch = tokenizer("First Citizen: We are accounted poor citizens", return_tensors="pt")
    with torch.no_grad():
        expected = ann(**batch).logits
    output = run(model, "temporal", **batch).logits
    assert float((output - expected).norm() / expected.norm()) < 10 * report["quality"]["relative_error"]
    assert report["settings"]["time_steps"] == 16


def test_options_reach_the_network(call: Call, source: Path, text: Path, tmp_path: Path) -> None:
    options = {
        "--time-steps": "9",
        "--levels": "3",
        "--rounding": "floor",
        "--max-spikes": "5",
        "--hg-tolerance": "1e-3",
        "--hg-lines": "20",
        "--last-step": "0.01",
        "--headroom": "2",
        "--seed": "4",
        "--execution": "temporal",
        "--window": "16",
        "--calibration": str(text),
        "--keep-analog": "*.0.mlp.*",
    }
    arguments = [part for pair in options.items() for part in pair]
    finished = call(source, "--output", tmp_path / "out", "--single-threshold", *arguments)
    assert finished.code == 0, finished.err
    report = json.loads((tmp_path / "out" / "las_report.json").read_text())
    assert report["settings"] == {
        "time_steps": 9,
        "levels": 3,
        "rounding": "floor",
        "max_spikes": 5,
        "outlier_aware": False,
        "hg_tolerance": 1e-3,
        "hg_lines": 20,
        "last_step": 0.01,
        "headroom": 2.0,
        "keep_analog": ["*.0.mlp.*"],
        "power_of_two_units": False,
        "by_operations": False,
        "seed": 4,
    }
    assert set(report["coverage"]["analog"]) == {f"transformer.h.0.mlp.{name}" for name in ("c_fc", "c_proj", "act")}
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert execution_of(model).time_steps == 9


def test_a_preset_and_a_setting_in_place_of_its_own(call: Call, source: Path, text: Path, tmp_path: Path) -> None:
    arguments = (source, "--output", tmp_path / "out", "--calibration", text, "--preset", "minimal", "--levels", "3")
    assert call(*arguments).code == 0
    settings = json.loads((tmp_path / "out" / "las_report.json").read_text())["settings"]
    assert LASConfig.from_dict(settings) == LASConfig.preset("minimal", levels=3, power_of_two_units=False)
    saved = LASConfig.from_dict(json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"])
    assert saved.last_step == settings_of("minimal")["last_step"]


def test_same_run_same_files(call: Call, source: Path, text: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        assert call(source, "--output", tmp_path / name, "--calibration", text).code == 0
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second"))
    assert first == second


def test_encoder(call: Call, text: Path, tmp_path: Path) -> None:
    model = save(bert(BertForSequenceClassification, num_labels=2).cpu(), tmp_path / "bert")
    with_vocabulary = json.loads((model / "config.json").read_text())
    assert with_vocabulary["vocab_size"] == 100  # fewer than the tokenizer's: ids beyond it are refused in one line
    finished = call(model, "--output", tmp_path / "out", "--calibration", text)
    assert_one_line(finished, r"the tokenizer gives token \d+, but the model knows 100 tokens")
    shutil.rmtree(model)
    save(bert(BertForSequenceClassification, num_labels=2, vocab_size=512), model)
    finished = call(model, "--output", tmp_path / "out", "--calibration", text)
    assert finished.code == 0, finished.err
    quality = json.loads((tmp_path / "out" / "las_report.json").read_text())["quality"]
    assert quality["ann"]["perplexity"] is None
    assert quality["kl"] is None
    assert 0 < quality["relative_error"] < 1e-3


def test_without_data(call: Call, source: Path, tmp_path: Path) -> None:
    finished = call(source, "--output", tmp_path / "out")
    assert finished.code == 0, finished.err
    data = json.loads((tmp_path / "out" / "las_report.json").read_text())["data"]
    assert "generated" in data["calibration"]


def test_overwrite(call: Call, source: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("old")
    refused = call(source, "--output", out, "--calibration", text)
    assert_one_line(refused, r"exists: give another folder, or --overwrite")
    assert contents(out) == {"old"}
    foreign = call(source, "--output", out, "--calibration", text, "--overwrite")
    assert_one_line(foreign, r"not the output of a conversion")
    (out / "las_report.json").write_text("{}")
    unknown = call(source, "--output", out, "--calibration", text, "--overwrite")
    assert_one_line(unknown, r"not the output of a conversion .its las_report.json is no report of one")
    (out / "las_report.json").write_text(json.dumps({"files": ["las_report.json"]}))
    not_all = call(source, "--output", out, "--calibration", text, "--overwrite")
    assert_one_line(not_all, r"holds what a conversion did not write \(old\): move it away")
    assert contents(out) == {"old", "las_report.json"}
    (out / "old").unlink()
    (out / "report.html").write_text("written by las-sj report")
    assert call(source, "--output", out, "--calibration", text, "--overwrite").code == 0
    assert contents(out) >= FILES
    assert "report.html" not in contents(out)


def test_ids_of_the_tokenizer_fit(source: Path) -> None:
    """What the tests above rely on."""
    assert len(AutoTokenizer.from_pretrained(source)) <= AutoModelForCausalLM.from_pretrained(source).config.vocab_size
    assert int(token_ids().max()) < 100
