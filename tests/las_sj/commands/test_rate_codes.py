"""The commands on networks of rate codes: converted to, reported, inspected, evaluated; and what is refused."""

import json
import re
from pathlib import Path

import pytest
import torch
from commands import Run, assert_one_line, contents
from tiny_models import gpt2, save, token_ids

import las_sj
from las_sj.checkpoint.loading import load_converted
from las_sj.commands.convert import main as convert_main
from las_sj.commands.evaluate import main as evaluate_main
from las_sj.commands.inspect import main as inspect_main
from las_sj.commands.report import main as report_main
from las_sj.models import execution_of

TEXT = "All: Speak, speak.\n\nFirst Citizen: You are all resolved rather to die than to famish?\n" * 12
OF_TEXT = ("--calibration-tokens", 512, "--evaluation-tokens", 128, "--window", 32)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 with the default model's tokenizer, and a text."""
    folder = tmp_path_factory.mktemp("rate-codes")
    save(gpt2(vocab_size=512), folder / "gpt2")
    (folder / "text.txt").write_text(TEXT)
    return folder


@pytest.fixture(scope="module")
def converted(files: Path) -> Path:
    """With τ = 2 and T = 3."""
    options = ["--method", "srp", "--time-steps", "3", "--presimulation-steps", "2", "--levels", "6"]
    data = ["--calibration", str(files / "text.txt"), *map(str, OF_TEXT)]
    convert_main([str(files / "gpt2"), "--output", str(files / "srp"), *options, *data])
    return files / "srp"


def test_convert(converted: Path) -> None:
    report = json.loads((converted / "las_report.json").read_text())
    assert report["settings"]["method"] == "srp"
    assert report["energy"]["totals"]["paper"]["ratio"] > 5 * 0.6
    quality = report["quality"]
    assert quality["relative_error"] > quality["quantised_ann"]["relative_error"] > 0
    assert quality["quantised_ann"]["perplexity"] != quality["snn"]["perplexity"]
    assert report["temporal_vs_accumulated"] > 1e-3
    assert "quantised ANN" in (converted / "las_report.md").read_text()
    assert "SRP, T = 3, 2 steps beforehand, L = 6" in (converted / "README.md").read_text()
    model, _ = load_converted(converted)
    assert model.config.quantization_config.settings == las_sj.FASConfig(6, 3, "srp", 2)


def test_report(converted: Path, tmp_path: Path, run: Run) -> None:
    finished = run(report_main, converted, "--output", tmp_path / "report.json", "--format", "json", "--tokens", 32)
    assert finished.code == 0, finished.err
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["settings"]["method"] == "srp"
    assert report["energy"]["equal_loss_bits"] >= 2
    assert len(report["sites"][0]["firing_rate"]) == 5
    assert {row["module"] for row in report["audit"]["rows"] if row["kind"] == "spike × weight"} == {
        "transformer.h.0.mlp.c_proj",
        "transformer.h.1.mlp.c_proj",
    }


def test_page(converted: Path, tmp_path: Path, run: Run) -> None:
    finished = run(report_main, converted, "--output", tmp_path / "report.html", "--tokens", 32, "--no-equal-loss")
    assert finished.code == 0, finished.err
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png") == 6
    assert "IF" in page


def test_inspect(converted: Path, run: Run) -> None:
    finished = run(inspect_main, converted, "--format", "json", "--tokens", 8)
    assert finished.code == 0, finished.err
    network = json.loads(finished.out)
    assert (network["time_steps"], network["latency_steps"]) == (3, 5)
    assert [site["neurons"] for site in network["sites"]] == [8 * 128, 8 * 128]


def test_evaluate(converted: Path, files: Path, tmp_path: Path, run: Run) -> None:
    """Of a folder: the network against what it stands for."""
    task = ("--task", "text", "--text", files / "text.txt", "--limit", 64, "--window", 32)
    finished = run(evaluate_main, converted, *task, "--output", tmp_path / "out")
    assert finished.code == 0, finished.err
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert found["execution"] == "temporal"
    assert "quantised" in found["ann"]
    assert found["tasks"][0]["energy"]["paper"] > 3
    refused = run(evaluate_main, converted, *task, "--output", tmp_path / "no", "--execution", "accumulated")
    assert_one_line(refused, "whose accumulated execution is the ANN")
    refused = run(evaluate_main, converted, *task, "--output", tmp_path / "no", "--method", "cos")
    assert_one_line(refused, "leave out --method")
    assert contents(tmp_path).isdisjoint({"no", "no.unfinished"})


def test_evaluate_a_plain_model(files: Path, tmp_path: Path, run: Run) -> None:
    task = ("--task", "text", "--text", files / "text.txt", "--limit", 64, "--window", 32)
    arguments = (files / "gpt2", "--method", "qcfs", "--time-steps", 2, *task, "--output", tmp_path / "out")
    finished = run(evaluate_main, *arguments)
    assert finished.code == 0, finished.err
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (found["execution"], found["ann"]) == ("temporal", "the original")
    assert (found["settings"]["method"], found["settings"]["levels"]) == ("qcfs", 8)


@pytest.fixture(scope="module")
def trained(files: Path) -> Path:
    """Of 4 levels and with a T of its own, as a training step leaves it."""
    model = las_sj.convert(gpt2(vocab_size=512), las_sj.FASConfig(4, 3), [{"input_ids": token_ids(2, 16)}])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("theta"):
                parameter.fill_(2.5)
    return save(model, files / "trained")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--method", "qcfs", "--levels", 4), las_sj.FASConfig(4, 3, "qcfs")),
        (("--method", "srp", "--time-steps", 2, "--presimulation-steps", 1), las_sj.FASConfig(4, 2, "srp", 1)),
        (("--method", "fas", "--fully-spiking"), las_sj.FASConfig(4, 3, fully_spiking=True)),
        (("--time-steps", 4), las_sj.LASConfig(time_steps=4, power_of_two_units=False)),
    ],
)
def test_convert_a_trained_network(
    options: tuple[object, ...],
    expected: las_sj.FASConfig | las_sj.LASConfig,
    trained: Path,
    files: Path,
    tmp_path: Path,
    run: Run,
) -> None:
    """Thresholds are those of the training, and the quantised ANN is what the network is compared with."""
    data = ("--calibration", files / "text.txt", *OF_TEXT)
    finished = run(convert_main, trained, "--output", tmp_path / "out", *options, *data)
    assert finished.code == 0, finished.err
    assert re.search(r"perplexity, quantised ANN +\| \d", finished.out)
    assert "perplexity, ANN" not in finished.out
    assert "never trained" not in finished.out
    report = json.loads((tmp_path / "out" / "las_report.json").read_text())
    assert report["quality"]["reference"] == "quantised ANN"
    assert "quantised_ann" not in report["quality"]
    model, _ = load_converted(tmp_path / "out")
    assert model.config.quantization_config.settings.to_dict() == expected.to_dict()
    thetas = [p for name, p in model.named_parameters() if re.search(r"mlp\.act\.(.*\.)?theta$", name)]
    assert [float(theta.detach()) for theta in thetas] == [2.5, 2.5]


def test_trained_networks_that_cannot_be_converted(trained: Path, files: Path, tmp_path: Path, run: Run) -> None:
    arguments = ("--output", tmp_path / "out", "--calibration", files / "text.txt", *OF_TEXT)
    refused = run(convert_main, trained, *arguments, "--method", "cos", "--levels", 8)
    assert_one_line(refused, "trained is trained with 4 levels: leave out --levels")
    las = save(las_sj.convert(gpt2(vocab_size=512), None, [{"input_ids": token_ids(2, 16)}]), tmp_path / "las")
    refused = run(convert_main, las, *arguments, "--method", "cos")
    assert_one_line(refused, "las is quantised already .las.: give the original model")
    assert not (tmp_path / "out").exists()


def test_models_that_were_never_trained_so(files: Path, tmp_path: Path, run: Run) -> None:
    data = ("--calibration", files / "text.txt", *OF_TEXT)
    finished = run(convert_main, files / "gpt2", "--output", tmp_path / "out", "--method", "qcfs", *data)
    assert finished.code == 0, finished.err
    assert "The model was never trained with quantised activations" in finished.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--method", "fas", "--rounding", "floor"), "--rounding is a setting of --method las, not of fas"),
        (("--method", "fas", "--preset", "exact"), "--preset is a setting of --method las"),
        (("--method", "cos", "--single-threshold"), "--single-threshold is a setting of --method las"),
        (("--presimulation-steps", "2"), "--presimulation-steps is a setting of --method fas, qcfs, srp, cos"),
        (("--method", "las", "--fully-spiking"), "--fully-spiking is a setting of"),
        (("--method", "fas", "--presimulation-steps", "2"), "--presimulation-steps are for methods srp and cos"),
        (("--method", "fas", "--time-steps", "33"), "--time-steps must be an integer of 1 … 32"),
        (("--method", "fas", "--execution", "accumulated"), "rate codes spike in the temporal execution"),
    ],
)
def test_settings_of_another_method(options: tuple[str, ...], message: str, tmp_path: Path, run: Run) -> None:
    assert_one_line(run(convert_main, "--output", tmp_path / "out", *options), message, code=2)
    assert contents(tmp_path) == set()


def test_las_is_the_default(files: Path, tmp_path: Path, run: Run) -> None:
    data = ("--calibration", files / "text.txt", *OF_TEXT)
    finished = run(convert_main, files / "gpt2", "--output", tmp_path / "out", "--method", "las", *data)
    assert finished.code == 0, finished.err
    model, _ = load_converted(tmp_path / "out")
    assert model.config.quantization_config.settings.to_dict() == las_sj.LASConfig(power_of_two_units=False).to_dict()


def test_fully_spiking_is_left_to_las(files: Path, tmp_path: Path, run: Run) -> None:
    data = ("--calibration", files / "text.txt", *OF_TEXT)
    arguments = ("--output", tmp_path / "out", "--method", "fas", "--fully-spiking", "--time-steps", 16, *data)
    finished = run(convert_main, files / "gpt2", *arguments)
    assert finished.code == 0, finished.err
    model, _ = load_converted(tmp_path / "out")
    assert execution_of(model).lanes is None
    with torch.no_grad():
        assert model(token_ids(1, 4)).logits.isfinite().all()
    task = ("--task", "text", "--text", files / "text.txt", "--limit", 64, "--window", 32)
    finished = run(evaluate_main, tmp_path / "out", *task, "--output", tmp_path / "evaluation")
    assert finished.code == 0, finished.err
    found = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert found["ann"] == "the original, with its quantised activations"
    measure = found["tasks"][0]["measures"][0]
    assert measure["snn"] == pytest.approx(measure["ann"], rel=5e-3)  # 16 steps lose next to nothing
