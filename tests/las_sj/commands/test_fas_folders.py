"""Folders of the steps of FAS: what other commands make of them, and what is refused where one was altered."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Run, assert_one_line, contents
from safetensors.torch import load_file, save_file
from tiny_models import Model, bert, calibration_batches, gpt2, save
from transformers import AutoTokenizer, BertForSequenceClassification

import las_sj
from las_sj.commands.fas import main as fas_main
from las_sj.commands.finetune import main as finetune_main
from las_sj.commands.inspect import main as inspect_main
from las_sj.commands.report import main as report_main

pytest.importorskip("datasets", reason="the extra glue is not installed")
pytest.importorskip("sklearn", reason="the extra glue is not installed")

GLUE = Path(__file__).parents[2] / "data" / "glue"
TEXT = "First Citizen: You are all resolved rather to die than to famish? All: Resolved, resolved.\n" * 40
SST2 = ("--task", "SST-2", "--data", GLUE, "--rows", 24, "--max-length", 16, "--batch-size", 4)
SITE = "transformer.h.0.mlp.act"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder of rate codes, as a training step leaves it, and a text."""
    folder = tmp_path_factory.mktemp("network")
    save(rate_coded(gpt2(vocab_size=512)), folder / "gpt")
    (folder / "text.txt").write_text(TEXT)
    return folder / "gpt"


def rate_coded(model: Model) -> Model:
    return las_sj.convert(model, las_sj.FASConfig(time_steps=2), calibration_batches())


def classifier(*classes: str) -> Model:
    names = dict(enumerate(classes))
    return rate_coded(bert(BertForSequenceClassification, vocab_size=512, id2label=names))


def of_text(folder: Path) -> tuple[object, ...]:
    return ("--text", folder.parent / "text.txt", "--evaluation-tokens", 64, "--batch-size", 2)


def written(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def test_report_and_inspect_of_steps(run: Run, network: Path, tmp_path: Path) -> None:
    """Of a decoder as a classifier, trained and calibrated: each folder has a sample of its rows."""
    second, third = tmp_path / "second", tmp_path / "third"
    finished = run(fas_main, "finetune", network, *SST2, "--steps", 1, "--output", second)
    assert finished.code == 0, finished.err
    assert "before" not in finished.out
    assert written(second, "config.json")["pad_token_id"] == AutoTokenizer.from_pretrained(second).pad_token_id
    assert written(second, "config.json")["id2label"] == {"0": "negative", "1": "positive"}
    finished = run(fas_main, "calibrate", second, *SST2, "--steps", 1, "--batches", 3, "--output", third)
    assert finished.code == 0, finished.err
    for folder in (second, third):
        finished = run(report_main, folder, "--format", "json", "--tokens", 32, "--no-equal-loss")
        assert finished.code == 0, finished.err
        assert written(folder, "report.json")["data_of_this_report"] == "the sample kept with the model"
    finished = run(inspect_main, third, "--tokens", 8)
    assert (finished.code, finished.visible) == (0, [])
    assert "calibrated IF" in finished.out
    assert "mean theta" in finished.out
    assert "mean beta" in finished.out
    assert "tables of HG neurons" not in finished.out


def test_calibration_says_what_the_network_has(run: Run, network: Path, tmp_path: Path) -> None:
    steps = ("--batches", 3, "--output")
    cases: dict[str, tuple[tuple[object, ...], list[int]]] = {
        "position": (("--granularity", "position", "--window", 99_999, "--steps", 1), [64, 128]),
        "site": (("--granularity", "site", "--window", 16, "--steps", 1), []),
        "channel": (("--steps", 0, "--window", 16), [128]),
    }
    for granularity, (options, shape) in cases.items():
        out = tmp_path / granularity
        finished = run(fas_main, "calibrate", network, *of_text(network), *options, *steps, out)
        assert finished.code == 0, finished.err
        report, entry = written(out, "fas.json"), written(out, "config.json")["quantization_config"]
        positions = shape[0] if len(shape) == 2 else None
        for settings in (report["settings"], entry):
            assert (settings["granularity"], settings["positions"]) == (granularity, positions)
        assert report["search"] == ("site" if granularity == "site" else "channel")
        assert entry["activations"][SITE]["calibrated"] == shape
        if granularity != "channel":
            assert (report["calibration"]["granularity"], report["calibration"]["positions"]) == (
                granularity,
                positions,
            )


def test_heads_of_another_task(run: Run, tmp_path: Path) -> None:
    """Its classes are as many, so that its weights fit."""
    other = save(classifier("not_equivalent", "equivalent"), tmp_path / "other")
    refused = run(fas_main, "calibrate", other, *SST2, "--output", tmp_path / "out")
    assert_one_line(refused, "other tells not_equivalent, equivalent apart, not SST-2: give its own --task")
    assert not (tmp_path / "out").exists()
    finished = run(fas_main, "finetune", other, *SST2, "--steps", 1, "--output", tmp_path / "out")
    assert finished.code == 0, finished.err
    assert "the head began as that of another task, which tells not_equivalent, equivalent apart" in finished.out
    assert written(tmp_path / "out", "fas.json")["head_of"] == ["not_equivalent", "equivalent"]
    assert written(tmp_path / "out", "config.json")["label2id"] == {"negative": 0, "positive": 1}
    assert "before" not in finished.out


def test_plain_fine_tuning_says_so_too(run: Run, tmp_path: Path) -> None:
    names = {0: "not_equivalent", 1: "equivalent"}
    other = save(bert(BertForSequenceClassification, vocab_size=512, id2label=names), tmp_path / "other")
    finished = run(finetune_main, other, *SST2[:-2], "--output", tmp_path / "out")
    assert finished.code == 0, finished.err
    assert "the head began as that of another task, which tells not_equivalent, equivalent apart" in finished.out
    assert written(tmp_path / "out", "finetune.json")["head_of"] == ["not_equivalent", "equivalent"]


def test_classes_without_names_and_their_own(run: Run, tmp_path: Path) -> None:
    for number, names in enumerate((("LABEL_0", "LABEL_1"), ("NEGATIVE", "POSITIVE"))):
        model = save(classifier(*names), tmp_path / f"model{number}")
        calibration = ("--steps", 1, "--batches", 2, "--search", "none", "--output", tmp_path / f"out{number}")
        finished = run(fas_main, "calibrate", model, *SST2, *calibration)
        assert finished.code == 0, finished.err


def test_tokenizer_without_padding(run: Run, network: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(network, tmp_path / "gpt")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    refused = run(fas_main, "finetune", folder, *SST2, "--output", tmp_path / "out")
    assert_one_line(refused, "the tokenizer of .*gpt has no padding token, which --task needs: set tokenizer.pad_token")


def _times_five(weights: dict[str, torch.Tensor]) -> None:
    weights[f"{SITE}.node.theta"] = weights[f"{SITE}.node.theta"] * 5


def _negative(weights: dict[str, torch.Tensor]) -> None:
    weights[f"{SITE}.node.theta"] = torch.tensor(-1.0)


def _missing(weights: dict[str, torch.Tensor]) -> None:
    del weights[f"{SITE}.node.theta"]


def _extra(weights: dict[str, torch.Tensor]) -> None:
    weights["transformer.h.9.mlp.act.node.theta"] = torch.tensor(1.0)


OF_WEIGHTS: dict[str, tuple[Callable[[dict[str, torch.Tensor]], None], str]] = {
    "times five": (_times_five, f"thresholds, .* of {SITE}.node are not those that were saved"),
    "negative": (_negative, f"{SITE}.node.theta is missing from the checkpoint or broken"),
    "missing": (_missing, f"{SITE}.node.theta is missing from the checkpoint"),
    "extra": (_extra, r"has weights that GPT2LMHeadModel has no place for: transformer.h.9.mlp.act.node.theta"),
}


@pytest.mark.parametrize("case", list(OF_WEIGHTS))
def test_thresholds_that_were_altered(case: str, run: Run, network: Path, tmp_path: Path) -> None:
    """A training refuses what loading refuses, before anything is measured."""
    change, message = OF_WEIGHTS[case]
    folder = shutil.copytree(network, tmp_path / "gpt")
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _refuses(run, network, folder, message)


ENTRIES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no entry": (lambda entries: entries.pop(SITE), "has no place for: transformer.h.0.mlp.act.node.theta"),
    "renamed": (
        lambda entries: entries.update({"transformer.h.7.mlp.act": entries.pop(SITE)}),
        "has no place for: transformer.h.0.mlp.act.node.theta",
    ),
    "levels": (lambda entries: entries[SITE].update(levels=4), f"{SITE} has 4 levels in config.json, whose settings"),
}


@pytest.mark.parametrize("case", list(ENTRIES))
def test_entries_that_were_altered(case: str, run: Run, network: Path, tmp_path: Path) -> None:
    change, message = ENTRIES[case]
    folder = shutil.copytree(network, tmp_path / "gpt")
    config = written(folder, "config.json")
    change(config["quantization_config"]["activations"])
    (folder / "config.json").write_text(json.dumps(config))
    _refuses(run, network, folder, message)


def _refuses(run: Run, network: Path, folder: Path, message: str) -> None:
    before = contents(folder.parent)
    refused = run(fas_main, "finetune", folder, *of_text(network), "--steps", 1, "--output", folder.parent / "out")
    assert_one_line(refused, message)
    assert contents(folder.parent) == before
