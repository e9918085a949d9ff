"""The command `las-sj optimize`."""

import json
from pathlib import Path
from typing import Any

import pytest
from commands import Run, assert_one_line, contents
from tiny_models import bert, gpt2, save
from transformers import BertForSequenceClassification

import las_sj.optimisation.optimise as optimise_module
from las_sj.checkpoint.loading import load_converted
from las_sj.commands.inspect import main as inspect_main
from las_sj.commands.optimize import main
from las_sj.commands.optimize_request import parse_arguments
from las_sj.commands.report import main as report_main
from las_sj.optimisation.goal import Goal
from las_sj.optimisation.measurement import Measurement, measure
from las_sj.optimisation.sensitivity import coding_sites

GLUE = Path(__file__).parents[2] / "data" / "glue"
TEXT = "All: Speak, speak.\n\nFirst Citizen: You are all resolved rather to die than to famish?\n" * 12
OF_TEXT = ("--calibration-tokens", 128, "--evaluation-tokens", 64, "--window", 32, "--batch-size", 1)
GOAL = ("--loss", "0.4%", "--time-steps", 8, "--binary")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 with the default model's tokenizer, and a text."""
    folder = tmp_path_factory.mktemp("optimised")
    save(gpt2(vocab_size=512), folder / "gpt2")
    (folder / "text.txt").write_text(TEXT)
    return folder


def arguments(files: Path, output: Path, *more: object) -> tuple[object, ...]:
    return (files / "gpt2", "--output", output, "--calibration", files / "text.txt", *OF_TEXT, *more)


@pytest.fixture(scope="module")
def optimised(files: Path) -> Path:
    main([str(argument) for argument in arguments(files, files / "out", *GOAL)])
    return files / "out"


def test_the_report_says_who_got_what(optimised: Path) -> None:
    report = json.loads((optimised / "las_report.json").read_text())
    found = report["optimization"]
    assert found["checked"]["loss"] <= 0.004
    assert found["binary"] is True
    assert report["settings"]["time_steps"] == found["time_steps"] <= 8
    model, _ = load_converted(optimised)
    for name, site in coding_sites(model).items():
        choice = found["sites"][name]
        assert float(site.node.theta_normal) == pytest.approx(choice["theta_normal"], rel=1e-6), name
        assert site.node.code.levels == choice["levels"] == 1
    assert sum(choice["energy_share"] for choice in found["sites"].values()) == pytest.approx(1.0)
    text = (optimised / "las_report.md").read_text()
    assert "| asked for | loss of 0.4 %, level-aware accounting, binary |" in text
    assert "the other half of" in text
    card = (optimised / "README.md").read_text()
    own = len(report["settings"].get("site_codes", []))
    assert (f"but for {own} populations with codes of their own" in card) == bool(own)
    assert not (optimised.parent / "out.unfinished").exists()


def test_other_commands_show_it(run: Run, optimised: Path, tmp_path: Path) -> None:
    inspected = run(inspect_main, optimised, "--tokens", 4)
    assert inspected.code == 0
    page = run(report_main, optimised, "--no-equal-loss", "--tokens", 8, "--output", tmp_path / "page.html")
    assert page.code == 0, page.err
    assert "optimisation, asked for" in (tmp_path / "page.html").read_text()


def test_an_interrupted_one_is_kept_and_goes_on(
    run: Run, files: Path, optimised: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def cut_off(*given: Any) -> Measurement:
        if measured:
            raise KeyboardInterrupt
        measured.append(measure(*given))
        return measured[0]

    again = arguments(files, files / "again", *GOAL)
    monkeypatch.setattr(optimise_module, "measure", cut_off)
    monkeypatch.setattr(optimise_module, "CLOSE", 2.0)  # so that there is a second round
    ended = run(main, *again)
    assert ended.code == 130
    assert "kept in" in ended.visible[-1]
    assert "the same command goes on" in ended.visible[-1]
    assert contents(files / "again.unfinished") >= {"statistics.safetensors", "measurements.json"}
    assert not (files / "again").exists()
    other = run(main, *again, "--headroom", 2)
    assert_one_line(other, "an optimisation with other settings.*--restart begins anew")
    monkeypatch.undo()
    monkeypatch.setattr(optimise_module, "gather", None)  # nothing is measured twice
    went_on = run(main, *again)
    assert went_on.code == 0, went_on.err
    assert contents(files / "again.unfinished") == set()
    ours, theirs = (json.loads((folder / "las_report.json").read_text()) for folder in (files / "again", optimised))
    assert ours["optimization"] == theirs["optimization"]
    assert ours["quality"] == theirs["quality"]


def test_another_goal_begins_with_the_same_statistics(
    run: Run, files: Path, tmp_path: Path, optimised: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    refused = run(main, *arguments(files, out, "--loss", 1e-9, "--time-steps", 8, "--binary"))
    says = (
        "out of reach with 8 time steps: allow more, or levels; statistics are kept in .*out.unfinished, another goal"
    )
    assert_one_line(refused, says)
    assert not out.exists()
    monkeypatch.setattr(optimise_module, "gather", None)  # nothing is measured twice
    turned = run(main, *arguments(files, out, *GOAL))
    assert turned.code == 0, turned.err
    ours, theirs = (json.loads((folder / "las_report.json").read_text()) for folder in (out, optimised))
    assert ours["optimization"] == theirs["optimization"]
    assert contents(tmp_path / "out.unfinished") == set()


def test_a_classifier_on_its_task(run: Run, files: Path, tmp_path: Path) -> None:
    model = bert(BertForSequenceClassification, num_labels=2, num_hidden_layers=1, vocab_size=512)
    save(model, files / "bert")
    task = ("--task", "sst2", "--data-dir", GLUE, "--batch-size", 2, "--task-rows", 16)
    made = run(main, files / "bert", "--output", tmp_path / "out", *task, *GOAL)
    assert made.code == 0, made.err
    report = json.loads((tmp_path / "out" / "las_report.json").read_text())
    assert report["optimization"]["checked"]["loss"] <= 0.004
    assert report["data"]["calibration"] == "the first half of training rows of SST-2"
    other = run(main, files / "gpt2", "--output", tmp_path / "other", *task, *GOAL)
    assert_one_line(other, "GPT2LMHeadModel is no classifier of SST-2")


@pytest.mark.parametrize(
    ("options", "says", "code"),
    [
        ((), "give --loss or --energy", 2),
        (("--loss", "a lot"), "'a lot' is no share: give 0.3% or 0.003", 2),
        (("--loss", "0%"), "loss must be a positive number", 2),
        (("--loss", "1%", "--energy", 0.4), "give a loss or an energy, and not both", 2),
        (("--loss", "-1%"), "loss must be a positive number below 100, got -0.01", 2),
        (("--energy", "-45%"), "energy must be a positive number", 2),
        (
            ("--loss", "1%", "--fewer-stages", "--by-operations"),
            "--fewer-stages is for .* leave out --by-operations",
            2,
        ),
        (("--loss", "1%", "--task", "MRPC"), "--task has data of its own: leave out --calibration", 2),
        (("--loss", "1%", "--task-rows", 5), "belong to --task: leave them out", 2),
        (("--loss", "1%", "--time-steps", 25), "time.steps must be", 2),
        (("--loss", "1%", "--execution", "temporal"), "--execution is the accumulated one", 2),
        (("--loss", "1%", "--calibration-tokens", 32), "there is one batch to calibrate and check on", 1),
    ],
)
def test_what_cannot_be(
    run: Run, files: Path, tmp_path: Path, options: tuple[object, ...], says: str, code: int
) -> None:
    assert_one_line(run(main, *arguments(files, tmp_path / "out", *options)), says, code)
    assert not (tmp_path / "out").exists()


def test_a_task_without_a_classifier_or_a_folder(run: Run, files: Path, tmp_path: Path) -> None:
    task = ("--output", tmp_path / "out", "--task", "MRPC", "--loss", "1%")
    assert_one_line(run(main, *task), "--task is for a classifier of it: name one as MODEL", 2)
    save(bert(BertForSequenceClassification, num_labels=2, num_hidden_layers=1, vocab_size=512), files / "pairs")
    nowhere = run(main, files / "pairs", *task, "--data-dir", tmp_path / "nowhere")
    assert_one_line(nowhere, "nowhere/MRPC/dev.tsv, which is not there: give a folder that holds MRPC/dev.tsv")


def test_shares(run: Run, files: Path) -> None:
    assert parse_arguments(["--output", "out", "--energy", "45%"]).goal == Goal(energy=0.45)
    much, little = (
        run(main, *arguments(files, files / "gpt2", "--loss", loss)) for loss in ("0.3", "0.3%")
    )  # the output is the model, which is refused
    assert "warning: a loss of 30 % is allowed; 0.3 % is 0.3% or 0.003" in much.err
    assert "warning" not in little.err
