"""python -m las_sj.evaluate: every kind of task, and two processes."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Call, assert_one_line, contents, one_thread
from evaluations import FILES, SHIPPED, TEXT, arguments_of, figures, read
from PIL import Image
from programs import ENVIRONMENT, run
from tiny_vision_language import IMAGES, build, photographs, processor_of

import las_sj
from las_sj.checkpoint.loading import default_model
from las_sj.evaluation.yes_no import Batches, read_questions

pytest.importorskip("lm_eval", reason="the extra evaluate is not installed")


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


def test_one_window_has_no_interval(call: Call, converted: Path, tmp_path: Path) -> None:
    finished = call(*arguments_of(converted, tmp_path / "out", "--limit", 17)[2:])
    assert finished.code == 0, finished.err
    for m in read(tmp_path / "out")["tasks"][0]["measures"]:
        assert m["low"] is m["high"] is None
    assert re.search(r"perplexity per token \|[^|]*\|[^|]*\|[^|]*\|  \|", finished.out)


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
    assert_one_line(call(model, *pope, "--output", tmp_path / "4"), "pope_random needs --images DIR", code=2)
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


def test_same_settings_as_the_model_has(call: Call, converted: Path, tmp_path: Path) -> None:
    more = ("--limit", 40, "--time-steps", 16, "--rounding", "nearest")
    finished = call(*arguments_of(converted, tmp_path / "out", *more)[2:])
    assert finished.code == 0, finished.err
    twelve = tmp_path / "twelve"
    assert call(*arguments_of(default_model(), twelve, "--limit", 40, "--time-steps", 12)[2:]).code == 0
    assert read(twelve)["settings"]["time_steps"] == 12


def test_a_terminal_that_knows_ascii_alone(converted: Path, tmp_path: Path) -> None:
    """What it cannot show is shown as a question mark, and the output is whole."""
    ascii_alone = "import runpy, sys; sys.stdout.reconfigure(encoding='ascii', errors='strict')"
    _, module, *arguments = arguments_of(converted, tmp_path / "out", "--limit", 40)
    done = run("-c", f"{ascii_alone}; runpy.run_module({module!r}, run_name='__main__')", *arguments)
    assert done.returncode == 0, done.stderr
    assert "perplexity per token" in done.stdout
    assert contents(tmp_path) == {"out", *(f"out/{name}" for name in FILES)}


def test_two_processes(call: Call, converted: Path, data: Path, tmp_path: Path) -> None:
    """Two processes share the batches, of lm-eval's tasks too; the figures are those of one."""
    one, two = tmp_path / "one", tmp_path / "two"
    tasks = ["--task", "text,piqa,lambada_openai", "--data-dir", str(data), "--limit", "300"]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    with one_thread():
        assert call(*arguments_of(converted, one)[2:], *tasks).code == 0
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
