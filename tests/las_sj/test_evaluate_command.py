"""python -m las_sj.evaluate: every kind of task, killed and started again, in two processes, and with bad input."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import ENVIRONMENT, Call, assert_one_line, contents, in_this_process
from PIL import Image
from tiny_models import bert
from tiny_vision_language import IMAGES, build, photographs, processor_of
from transformers import AutoTokenizer, BertForSequenceClassification

import las_sj
from las_sj.convert_command import main as convert
from las_sj.evaluate_command import main
from las_sj.loading import default_model
from las_sj.tasks.yes_no import Batches, read_questions

pytest.importorskip("lm_eval", reason="the extra evaluate is not installed")

SHIPPED = Path(__file__).parents[1] / "data"
FILES = {"evaluation.json", "evaluation.md", "differences.png"}
TEXT = default_model() / "evaluation.txt"


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Iterator[Call]:
    with in_this_process(main, capfd) as call_here:
        yield call_here


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "bert"
    bert(BertForSequenceClassification, vocab_size=512, num_labels=2).save_pretrained(folder)
    AutoTokenizer.from_pretrained(default_model()).save_pretrained(folder)
    return folder


def test_names_of_another_task(call: Call, classifier: Path, tmp_path: Path) -> None:
    """They are said, as such a model is scored on a task that it was not made for."""
    named = shutil.copytree(classifier, tmp_path / "named")
    config = json.loads((named / "config.json").read_text())
    options = ("--task", "SST-2", "--data-dir", SHIPPED, "--limit", 8, "--output")
    for names, said in ((("Bad", "Good"), True), (("Positive", "Negative"), False)):
        config["id2label"] = dict(enumerate(names))
        config["label2id"] = {name: number for number, name in enumerate(names)}
        (named / "config.json").write_text(json.dumps(config))
        out = tmp_path / names[0]
        assert call(named, *options, out).code == 0
        words = "the model's bad, good taken for negative, positive"
        assert (words in read(out)["tasks"][0]["description"]) == said


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default model: GPT-2, really trained."""
    folder = tmp_path_factory.mktemp("models") / "gpt2"
    convert(["--output", str(folder), "--calibration-tokens", "1024", "--evaluation-tokens", "256"])
    return folder


def figures(report: dict[str, Any]) -> list[Any]:
    """All of a report's tasks but the times."""
    return [
        {key: value for key, value in task.items() if not re.search("seconds|time", key)} for task in report["tasks"]
    ]


def read(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    return report


def test_glue(call: Call, classifier: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    finished = call(classifier, "--task", "SST-2", "--data-dir", SHIPPED, "--output", out)
    assert finished.code == 0, finished.err
    assert contents(tmp_path) == {"out", *(f"out/{name}" for name in FILES)}
    (task,) = read(out)["tasks"]
    assert (task["task"], task["rows"], task["unit"]) == ("SST-2", 100, "rows")
    assert task["agreement"] >= 0.98
    (accuracy,) = task["measures"]
    assert accuracy["metric"] == "accuracy"
    assert abs(accuracy["difference"]) <= 0.02
    assert task["spikes_per_neuron"] > 0
    assert set(task["energy"]) == {"paper", "level_aware", "with_memory"}
    assert task["time_ratio"] > 0
    assert task["description"].startswith("development split, texts cut at ")
    assert "| SST-2 | accuracy |" in finished.out
    assert finished.out.startswith((out / "evaluation.md").read_text())


def test_text_of_a_converted_model(call: Call, converted: Path, tmp_path: Path) -> None:
    """Its ANN comes from the same folder."""
    out, options = tmp_path / "out", ("--limit", 600, "--window", 64, "--batch-size", 4)
    finished = call(converted, "--task", "text", "--text", TEXT, *options, "--output", out)
    assert finished.code == 0, finished.err
    (task,) = read(out)["tasks"]
    assert task["rows"] == 599
    found = {m["metric"]: m for m in task["measures"]}
    assert list(found) == ["perplexity per token", "perplexity per word", "bits per byte"]
    assert 2 < found["perplexity per token"]["ann"] < 100  # it was trained on such text; by chance: 512
    assert abs(found["perplexity per token"]["snn"] / found["perplexity per token"]["ann"] - 1) < 2e-3
    for m in found.values():
        assert m["low"] <= m["difference"] <= m["high"]
    assert task["agreement"] > 0.97
    original = call(default_model(), "--task", "text", "--text", TEXT, *options, "--output", tmp_path / "ann")
    assert original.code == 0, original.err
    again = {m["metric"]: m["ann"] for m in read(tmp_path / "ann")["tasks"][0]["measures"]}
    assert again == {metric: m["ann"] for metric, m in found.items()}


ROWS = {
    "zeroshot/piqa/dev.jsonl": [{"goal": "To be?", "sol1": "not to be", "sol2": "to sleep"}] * 3,
    "superglue/COPA/val.jsonl": [
        {"premise": "The king fell.", "choice1": "He wept.", "choice2": "He laughed.", "question": "cause", "label": 0},
        {
            "premise": "She wept.",
            "choice1": "He came.",
            "choice2": "It rained.",
            "question": "effect",
            "label": 1,
        },
    ],
    "lambada/lambada_test.jsonl": [{"text": "to be or not to be"}, {"text": "my kingdom for a horse"}],
    "zeroshot/winogrande/dev.jsonl": [
        {"question": "Ann saw Bob and _ waved.", "choices": ["Ann", "Bob"], "label": 0},
        {"question": "Ann saw Bob so _ hid.", "choices": ["Ann", "Bob"], "label": 1},
    ],
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for name, rows in ROWS.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "zeroshot/piqa/dev-labels.lst").write_text("0\n1\n0\n")
    return folder


def test_zero_shot_of_local_files(call: Call, converted: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = "piqa,copa,lambada_openai,winogrande"
    finished = call(converted, "--task", names, "--data-dir", data, "--batch-size", 2, "--output", out)
    assert finished.code == 0, finished.err
    tasks = {task["task"]: task for task in read(out)["tasks"]}
    assert {name: task["rows"] for name, task in tasks.items()} == {
        "piqa": 3,
        "copa": 2,
        "lambada_openai": 2,
        "winogrande": 2,
    }
    assert [m["metric"] for m in tasks["piqa"]["measures"]] == ["acc", "acc_norm"]
    assert tasks["piqa"]["measures"][0]["ann"] in (1 / 3, 2 / 3)  # three times the same row
    assert all(task["agreement"] == 1 for task in tasks.values())


@pytest.mark.skipif(not IMAGES.exists(), reason="the CIFAR-10 images of shared/data are not here")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_yes_no(dtype: str, call: Call, tmp_path: Path) -> None:
    """A small LLaVA with random weights on photographs: what it says is nonsense, but the same for both."""
    model, images = tmp_path / "llava", tmp_path / "images"
    ann, processor = build("llava"), processor_of("llava")
    ann.save_pretrained(model)
    processor.save_pretrained(model)
    images.mkdir()
    lines = []
    for number, picture in enumerate(photographs()[:6]):
        Image.fromarray(picture).save(images / f"{number}.png")
        text = "Is there a cat in the image?" if number else "Cat?"  # of other lengths: padded
        row = {"image": f"{number}.png", "text": text, "label": "yes" if number % 2 else "no"}
        lines.append(json.dumps(row))
    (tmp_path / "questions.json").write_text("\n".join(lines))
    options = ("--questions", tmp_path / "questions.json", "--images", images, "--batch-size", 4)
    finished = call(model, "--task", "yes_no", *options, "--dtype", dtype, "--output", tmp_path / "out")
    assert finished.code == 0, finished.err
    (task,) = read(tmp_path / "out")["tasks"]
    assert task["rows"] == 6
    assert [m["metric"] for m in task["measures"]] == ["accuracy", "precision", "recall", "F1", "share of yes"]
    assert task["agreement"] == 1
    if dtype == "float32":
        questions = read_questions(tmp_path / "questions.json", images)
        _check_converted(call, ann, Batches(processor, questions, 4, torch.float32), options, task, tmp_path)
    text_only = call(model, "--task", "yes_no", *options, "--calibration", TEXT, "--output", tmp_path / "5")
    assert_one_line(text_only, "takes images, of which --calibration has none: leave it out")
    assert_one_line(call(model, "--task", "text", "--text", TEXT, "--output", tmp_path / "3"), "takes images: pope")
    pope = ("--task", "pope_random", "--data-dir", tmp_path)
    assert_one_line(call(model, *pope, "--output", tmp_path / "4"), "pope_random needs --images DIR")
    (images / "3.png").write_bytes(b"no image")
    assert_one_line(
        call(model, "--task", "yes_no", *options, "--output", tmp_path / "2"), "cannot read the image .*3.png"
    )
    (images / "3.png").unlink()
    assert_one_line(call(model, "--task", "yes_no", *options, "--output", tmp_path / "2"), "line 4: there is no image")


def _check_converted(
    call: Call, ann: Any, batches: Batches, options: tuple[object, ...], task: dict[str, Any], folder: Path
) -> None:
    """A converted folder, with its processor, gives the same figures as the conversion on the way."""
    converted = folder / "converted"
    las_sj.convert(ann, las_sj.LASConfig(), [*batches]).save_pretrained(converted)
    command = (converted, "--task", "yes_no", *options, "--output", folder / "of_converted")
    assert_one_line(call(*command), "has no processor of texts and images")
    batches.processor.save_pretrained(converted)
    finished = call(*command)
    assert finished.code == 0, finished.err
    (again,) = read(folder / "of_converted")["tasks"]
    for name in ("measures", "agreement", "spikes_per_neuron"):
        assert again[name] == task[name]


def arguments_of(model: Path, out: Path, *more: object) -> list[str]:
    options = ["--task", "text", "--text", TEXT, "--limit", 1500, "--window", 32, "--batch-size", 1, "--output", out]
    return [str(part) for part in ("-m", "las_sj.evaluate", model, *options, *more)]


def test_killed_and_started_again(call: Call, converted: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    records = tmp_path / "out.unfinished" / "text.0.jsonl"
    subprocess.run([sys.executable, *arguments_of(converted, whole)], env=ENVIRONMENT, check=True, capture_output=True)
    with subprocess.Popen(
        [sys.executable, *arguments_of(converted, out)], env=ENVIRONMENT, stderr=subprocess.PIPE
    ) as process:
        while not (records.exists() and records.read_bytes().count(b"\n") >= 5):
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    finished = records.read_bytes().count(b"\n")
    assert 5 <= finished < 94
    assert not out.exists()
    kept = records.read_bytes()
    assert_one_line(call(*arguments_of(converted, out, "--limit", 100)[2:]), "other limit: --restart begins anew")
    other = shutil.copytree(converted, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["quantization_config"]["time_steps"] -= 1  # nothing else says how many
    (other / "config.json").write_text(json.dumps(config))
    assert_one_line(call(*arguments_of(other, out)[2:]), "other configuration of the model: --restart begins anew")
    shutil.rmtree(other)
    assert records.read_bytes() == kept
    again = subprocess.run(
        [sys.executable, *arguments_of(converted, out)], env=ENVIRONMENT, check=True, capture_output=True
    )
    assert f"{finished}/94".encode() in again.stderr  # the bar begins where it was
    assert figures(read(out)) == figures(read(whole))
    assert contents(tmp_path) == {f"{a}{b}" for a in ("whole", "out") for b in ("", *(f"/{name}" for name in FILES))}


def test_error_after_finished_batches(call: Call, converted: Path, tmp_path: Path) -> None:
    """The line says that they are kept; and they are."""
    text = tmp_path / "data" / "wikitext-2-raw" / "wiki.test.raw"
    text.parent.mkdir(parents=True)
    text.write_text("a")
    more = ("--task", "text,wikitext2", "--data-dir", tmp_path / "data", "--limit", 100)
    arguments = arguments_of(converted, tmp_path / "out", *more)[2:]
    kept = "finished batches are kept in .*out.unfinished, the same command goes on"
    assert_one_line(call(*arguments), f"fewer than two tokens.*; {kept}")
    text.write_text("To be, or not to be.")
    assert call(*arguments).code == 0
    assert [task["task"] for task in read(tmp_path / "out")["tasks"]] == ["text", "wikitext2"]


@pytest.mark.parametrize("most", [400, 700, 4000])
def test_full_disk(most: int, call: Call, converted: Path, tmp_path: Path) -> None:
    """The system refuses to make a file longer than this: the fingerprint, the records, the picture."""
    arguments = arguments_of(converted, tmp_path / "out", "--limit", 300)[2:]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        finished = call(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    kept = most > 400
    assert_one_line(finished, "file too large" + "; finished batches are kept in .*, the same command goes on" * kept)
    assert {path.split("/")[0] for path in contents(tmp_path)} == ({"out.unfinished"} if kept else set())
    assert call(*arguments).code == 0
    assert contents(tmp_path) == {"out", *(f"out/{name}" for name in FILES)}


def test_names_that_no_folder_can_have(call: Call, converted: Path, tmp_path: Path) -> None:
    """Found before the work, not after it."""
    assert_one_line(
        call(*arguments_of(converted, tmp_path / ("o" * 240))[2:]), "cannot write to .*: File name too long"
    )
    assert contents(tmp_path) == set()


def test_one_window_has_no_interval(call: Call, converted: Path, tmp_path: Path) -> None:
    finished = call(*arguments_of(converted, tmp_path / "out", "--limit", 17)[2:])
    assert finished.code == 0, finished.err
    for m in read(tmp_path / "out")["tasks"][0]["measures"]:
        assert m["low"] is m["high"] is None
    assert re.search(r"perplexity per token \|[^|]*\|[^|]*\|[^|]*\|  \|", finished.out)


def test_interrupted_before_it_goes_on(call: Call, tmp_path: Path) -> None:
    """What an earlier run finished is said to be there, as the network is still being made."""
    text = tmp_path / "data" / "wikitext-2-raw" / "wiki.test.raw"
    text.parent.mkdir(parents=True)
    text.write_text("a")
    more = ("--task", "text,wikitext2", "--data-dir", tmp_path / "data", "--limit", 100)
    arguments = arguments_of(default_model(), tmp_path / "out", *more)
    assert call(*arguments[2:]).code == 1
    with subprocess.Popen([sys.executable, *arguments], env=ENVIRONMENT, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        seen = b""
        while b"calibrating" not in seen:
            seen += (chunk := os.read(process.stderr.fileno(), 4096))
            assert chunk, seen.decode()
        process.send_signal(signal.SIGTERM)
        seen += process.stderr.read()
    assert process.returncode == 130
    last = seen.decode().strip().rsplit("\n", 1)[-1]
    assert last == f"interrupted: finished batches are kept in {tmp_path / 'out.unfinished'}, the same command goes on"


def test_same_settings_as_the_model_has(call: Call, converted: Path, tmp_path: Path) -> None:
    more = ("--limit", 40, "--time-steps", 16, "--rounding", "nearest")
    finished = call(*arguments_of(converted, tmp_path / "out", *more)[2:])
    assert finished.code == 0, finished.err
    twelve = tmp_path / "twelve"
    assert call(*arguments_of(default_model(), twelve, "--limit", 40, "--time-steps", 12)[2:]).code == 0
    assert read(twelve)["settings"]["time_steps"] == 12


def test_a_converted_model_of_other_settings(call: Call, tmp_path: Path) -> None:
    """A setting that is the usual one is a setting too."""
    convert(["--output", str(tmp_path / "twelve"), "--calibration-tokens", "256", "--time-steps", "12"])
    finished = call(*arguments_of(tmp_path / "twelve", tmp_path / "out", "--time-steps", 16)[2:])
    assert_one_line(finished, "has its own settings: leave out --time-steps")


def test_interrupted(converted: Path, tmp_path: Path) -> None:
    command = [sys.executable, *arguments_of(converted, tmp_path / "out")]
    with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        seen = b""
        while not re.search(rb"text: .* [1-9]\d*/94", seen):
            chunk = os.read(process.stderr.fileno(), 4096)
            assert chunk, seen.decode()
            seen += chunk
        process.send_signal(signal.SIGINT)
        seen += process.stderr.read()
    assert process.returncode == 130
    last = seen.decode().strip().rsplit("\n", 1)[-1]
    assert last == f"interrupted: finished batches are kept in {tmp_path / 'out.unfinished'}, the same command goes on"
    assert not (tmp_path / "out").exists()


def test_two_processes(converted: Path, data: Path, tmp_path: Path) -> None:
    """Two processes share the batches, of lm-eval's tasks too; the figures are those of one."""
    one, two = tmp_path / "one", tmp_path / "two"
    tasks = ["--task", "text,piqa,lambada_openai", "--data-dir", str(data), "--limit", "300"]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run(
        [sys.executable, *arguments_of(converted, one), *tasks], env=ENVIRONMENT, check=True, capture_output=True
    )
    seen: dict[str, int] = {}
    with subprocess.Popen(
        [sys.executable, *launch, *arguments_of(converted, two), *tasks],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while process.poll() is None:
            for path in (tmp_path / "two.unfinished").glob("*.jsonl"):
                seen[path.name] = max(seen.get(path.name, 0), _lines_of(path))
            time.sleep(0.01)
        assert process.stdout is not None
        assert process.stderr is not None
        printed, errors = process.stdout.read(), process.stderr.read()
    assert process.returncode == 0, errors
    assert printed.count("Written to") == 1
    assert figures(read(two)) == figures(read(one))
    assert not (tmp_path / "two.unfinished").exists()
    assert min(seen["text.0.jsonl"], seen["text.1.jsonl"]) >= 5  # of 10 each


def _lines_of(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:  # removed since
        return 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--task", ","), "--task names no task"),
        (("--task", "SST-2", "--limit", 0), "--limit must be at least 1"),
        (("--task", "SST-2", "--batch-size", -1), "--batch-size must be at least 1"),
        (("--task", "text"), "text needs --text FILE"),
        (("--task", "text", "--text", "nowhere"), "cannot read text from nowhere"),
        (("--task", "SST-2", "--data-dir", "nowhere"), "--data-dir nowhere is no folder"),
        (("--task", "CoLA", "--data-dir", SHIPPED), "CoLA/dev.tsv"),
        (("--task", "wikitext103", "--data-dir", SHIPPED), "has no wikitext-103-raw/wiki.test.raw"),
        (("--task", "piqa", "--data-dir", SHIPPED), "cannot read .*piqa/dev.jsonl"),
        (("--task", "pope_random", "--data-dir", SHIPPED), "takes no images, and pope_random asks about them"),
        (("--task", "SST-2", "--data-dir", SHIPPED), "GPT2LMHeadModel is no classifier of SST-2"),
        (("--task", "text", "--text", TEXT, "--limit", 1), "fewer than two tokens"),
        (("--task", "text", "--text", TEXT, "--window", 8, "--stride", 9), "--stride 9 is more than --window 8"),
        (("--task", "text", "--text", TEXT, "--stride", 1000), "a stride of 1000 tokens leaves some out"),
        (("--task", "text , text", "--text", TEXT), "--task names text twice"),
        (("--task", "text", "--text", TEXT, "--calibration", TEXT), "has its own settings: leave out --calibration"),
        (("--task", "text", "--text", TEXT, "--time-steps", 9, "--dtype", "bfloat16"), "out --time-steps, --dtype"),
        (("--task", "text", "--text", TEXT, "--dtype", "float32"), "has its own settings: leave out --dtype"),
        (
            ("--task", "text", "--text", TEXT, "--single-threshold"),
            "has its own settings: leave out --single-threshold",
        ),
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
