"""Folders of networks in bf16 and fp16, made by the command, are taken by the others."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from las_sj.checkpoint.loading import load_converted
from las_sj.commands.convert import main as convert
from las_sj.commands.evaluate import main as evaluate
from las_sj.commands.inspect import main as inspect
from las_sj.commands.report import main as report
from las_sj.loading import default_model

DTYPES = ["bfloat16", "float16"]
TEXT = default_model() / "evaluation.txt"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The default model, converted in each precision."""
    made = {dtype: tmp_path_factory.mktemp("half") / dtype for dtype in (*DTYPES, "float32")}
    sizes = ["--calibration-tokens", "512", "--evaluation-tokens", "256", "--window", "64"]
    for dtype, folder in made.items():
        convert(["--output", str(folder), "--dtype", dtype, *sizes])
    return made


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_converted(dtype: str, folders: dict[str, Path]) -> None:
    found, single = (read(folders[name] / "las_report.json") for name in (dtype, "float32"))
    assert found["settings"]["power_of_two_units"] is True
    assert single["settings"]["power_of_two_units"] is False
    assert found["quality"]["snn"]["perplexity"] == pytest.approx(found["quality"]["ann"]["perplexity"], rel=0.01)
    assert found["spikes_per_neuron"] == pytest.approx(single["spikes_per_neuron"], rel=0.3)
    model = load_converted(folders[dtype])[0]
    assert model.dtype == getattr(torch, dtype)
    assert read(folders[dtype] / "config.json")["dtype"] == dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_evaluated(dtype: str, folders: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "out"
    sizes = ["--limit", "256", "--window", "64"]
    evaluate([str(folders[dtype]), "--task", "text", "--text", str(TEXT), "--output", str(output), *sizes])
    [task] = next(found["tasks"] for found in map(read, output.glob("*.json")) if "tasks" in found)
    for measure in task["measures"]:
        assert measure["snn"] == pytest.approx(measure["ann"], rel=0.01)


@pytest.mark.parametrize("dtype", DTYPES)
def test_looked_at(dtype: str, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report([str(folders[dtype]), "--output", str(tmp_path / "report.json"), "--format", "json", "--tokens", "64"])
    assert read(tmp_path / "report.json")
    capsys.readouterr()
    inspect([str(folders[dtype]), "--format", "json"])
    assert json.loads(capsys.readouterr().out)


def test_units_by_option(tmp_path: Path) -> None:
    sizes = ["--calibration-tokens", "128", "--evaluation-tokens", "64", "--window", "64"]
    convert(["--output", str(tmp_path / "out"), "--power-of-two-units", *sizes])
    assert read(tmp_path / "out" / "config.json")["quantization_config"]["power_of_two_units"] is True
