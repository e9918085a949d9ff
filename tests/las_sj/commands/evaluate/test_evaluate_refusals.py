"""python -m las_sj.evaluate with input that must end in one clear line."""

import shutil
from pathlib import Path

import pytest
from commands import Call, assert_one_line, contents
from evaluations import SHIPPED, TEXT, arguments_of

from las_sj.commands.convert import main as convert

pytest.importorskip("lm_eval", reason="the extra evaluate is not installed")


def test_names_that_no_folder_can_have(call: Call, converted: Path, tmp_path: Path) -> None:
    """Found before the work, not after it."""
    assert_one_line(
        call(*arguments_of(converted, tmp_path / ("o" * 240))[2:]),
        "cannot write to .* .File name too long.: give another",
    )
    assert contents(tmp_path) == set()


def test_a_converted_model_of_other_settings(call: Call, tmp_path: Path) -> None:
    """A setting that is the usual one is a setting too."""
    convert(["--output", str(tmp_path / "twelve"), "--calibration-tokens", "256", "--time-steps", "12"])
    finished = call(*arguments_of(tmp_path / "twelve", tmp_path / "out", "--time-steps", 16)[2:])
    assert_one_line(finished, "has its own settings: leave out --time-steps")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--task", ","), "--task names no task"),
        (("--task", "SST-2", "--limit", 0), "--limit must be at least 1"),
        (("--task", "SST-2", "--batch-size", -1), "--batch-size must be at least 1"),
        (("--task", "text", "--text", TEXT, "--seed", -1), "--seed must be at least 0, got -1"),
        (("--task", "text"), "text needs --text FILE"),
        (("--task", "text", "--text", TEXT, "--window", 8, "--stride", 9), "--stride 9 is more than --window 8"),
        (("--task", "text , text", "--text", TEXT), "--task names text twice"),
        (("--task", "no_such_task"), "--task no_such_task: there is no such task"),
        (("--task", "enwik8"), "enwik8 is not on the hub as text: give --data-dir"),
    ],
)
def test_wrong_usage(options: tuple[object, ...], says: str, call: Call, converted: Path, tmp_path: Path) -> None:
    assert_one_line(call(converted, *options, "--output", tmp_path / "out"), says, code=2)
    assert contents(tmp_path) == set()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--task", "text", "--text", "nowhere"), "cannot read text from nowhere"),
        (("--task", "SST-2", "--data-dir", "nowhere"), "--data-dir nowhere is no folder"),
        (("--task", "CoLA", "--data-dir", SHIPPED), "CoLA/dev.tsv"),
        (("--task", "wikitext103", "--data-dir", SHIPPED), "has no wikitext-103-raw/wiki.test.raw"),
        (("--task", "piqa", "--data-dir", SHIPPED), "cannot read .*piqa/dev.jsonl"),
        (("--task", "pope_random", "--data-dir", SHIPPED), "takes no images, and pope_random asks about them"),
        (("--task", "SST-2", "--data-dir", SHIPPED), "GPT2LMHeadModel is no classifier of SST-2"),
        (("--task", "text", "--text", TEXT, "--limit", 1), "fewer than two tokens"),
        (("--task", "text", "--text", TEXT, "--stride", 1000), "a stride of 1000 tokens leaves some out"),
        (("--task", "text", "--text", TEXT, "--calibration", TEXT), "has its own settings: leave out --calibration"),
        (("--task", "text", "--text", TEXT, "--time-steps", 9, "--dtype", "bfloat16"), "out --time-steps, --dtype"),
        (("--task", "text", "--text", TEXT, "--dtype", "float32"), "has its own settings: leave out --dtype"),
        (
            ("--task", "text", "--text", TEXT, "--single-threshold"),
            "has its own settings: leave out --single-threshold",
        ),
        (("--task", "text", "--text", TEXT, "--preset", "minimal"), "has its own settings: leave out --preset$"),
        (("--task", "text,SST-2", "--text", TEXT, "--data-dir", SHIPPED), "GPT2LMHeadModel is no classifier of SST-2"),
        (("--task", "yes_no"), "takes no images, and yes_no asks about them"),
    ],
)
def test_bad_input(options: tuple[object, ...], says: str, call: Call, converted: Path, tmp_path: Path) -> None:
    assert_one_line(call(converted, *options, "--output", tmp_path / "out"), says)
    assert contents(tmp_path) == set()


def test_a_classifier_predicts_no_text(call: Call, classifier: Path, tmp_path: Path) -> None:
    finished = call(classifier, "--task", "text", "--text", TEXT, "--output", tmp_path / "out")
    assert_one_line(finished, "BertForSequenceClassification does not predict the next token")
    assert contents(tmp_path) == set()


@pytest.mark.parametrize(
    ("name", "says"), [("nowhere/at_all", "there is no folder nowhere/at_all"), ("config.json", "is a file: give the")]
)
def test_no_model(name: str, says: str, call: Call, classifier: Path, tmp_path: Path) -> None:
    model = classifier / name if name == "config.json" else name
    options = ("--task", "SST-2", "--data-dir", SHIPPED, "--output", tmp_path / "out")
    assert_one_line(call(model, *options), says)
    assert contents(tmp_path) == set()


def test_no_tokenizer(call: Call, converted: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(converted, bare, ignore=lambda _, names: [name for name in names if "token" in name])
    assert_one_line(call(bare, "--task", "text", "--text", TEXT, "--output", tmp_path / "out"), "has no tokenizer")


def test_no_calibration(call: Call, classifier: Path, tmp_path: Path) -> None:
    """Training rows are what a classifier is calibrated on, unless there is something else."""
    (tmp_path / "data" / "SST-2").mkdir(parents=True)
    shutil.copy(SHIPPED / "glue" / "SST-2" / "dev.tsv", tmp_path / "data" / "SST-2")
    options = ("--task", "SST-2", "--data-dir", tmp_path / "data", "--limit", 9, "--output", tmp_path / "out")
    assert_one_line(call(classifier, *options), "train.tsv.* so does --calibration FILE")
    assert contents(tmp_path) == {"data", "data/SST-2", "data/SST-2/dev.tsv"}
    assert call(classifier, *options, "--calibration", TEXT).code == 0


def test_a_link_to_nothing(call: Call, converted: Path, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    assert_one_line(call(*arguments_of(converted, tmp_path / "out")[2:]), "out is a link to nothing")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_folders_in_the_way(call: Call, converted: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    options = ("--task", "text", "--text", TEXT, "--limit", 40, "--window", 32)
    assert_one_line(call(converted, *options, "--output", tmp_path / "out"), "exists: give another folder")
    finished = call(converted, *options, "--output", tmp_path / "out", "--overwrite")
    assert_one_line(finished, "not the output of an evaluation")
    (tmp_path / "new.unfinished").mkdir()
    (tmp_path / "new.unfinished" / "thesis.tex").write_text("precious")
    assert_one_line(call(converted, *options, "--output", tmp_path / "new"), "does not hold an unfinished evaluation")
    restarted = call(converted, *options, "--output", tmp_path / "new", "--restart")
    assert_one_line(restarted, "does not hold an unfinished evaluation")
    assert (tmp_path / "new.unfinished" / "thesis.tex").read_text() == "precious"
    for more in ((), ("--overwrite",)):
        assert call(converted, *options, "--output", tmp_path / "third", *more).code == 0
