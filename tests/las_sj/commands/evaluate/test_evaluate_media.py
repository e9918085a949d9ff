"""Classes of images and tokens of speech, ANN beside SNN, on folders of files."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Call, assert_one_line
from tiny_media import CLASSES, save_ctc, save_pictures, save_sounds, save_t5, save_vit, vit
from tiny_models import gpt2, save
from transformers import AutoImageProcessor

from las_sj.data.images import read_image


def read(folder: Path) -> dict[str, Any]:
    (task,) = json.loads((folder / "evaluation.json").read_text())["tasks"]
    found: dict[str, Any] = task
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    save_vit(folder / "vit")
    save(gpt2(vocab_size=512), folder / "gpt")
    save_pictures(folder / "images")
    return folder


def accuracy(folder: Path) -> float:
    """Of the ANN, picture by picture."""
    model, processor, right = vit(), AutoImageProcessor.from_pretrained(folder / "vit"), 0
    files = [file for file in (folder / "images").rglob("*.*") if file.is_file()]
    for file in files:
        with torch.no_grad():
            logits = model(**processor(read_image(file), return_tensors="pt")).logits
        right += CLASSES[int(logits.argmax())] == file.parent.name
    return right / len(files)


def test_classes(folder: Path, call: Call, tmp_path: Path) -> None:
    options = ("--task", "image_classes", "--images", folder / "images", "--batch-size", 4)
    finished = call(folder / "vit", *options, "--output", tmp_path / "out")
    assert finished.code == 0, finished.err
    task = read(tmp_path / "out")
    assert (task["rows"], task["unit"], task["agreement"]) == (6, "images", 1)
    (measure,) = task["measures"]
    assert measure["metric"] == "accuracy"
    assert measure["ann"] == measure["snn"] == pytest.approx(accuracy(folder))


def test_folders_that_are_no_classes(folder: Path, call: Call, tmp_path: Path) -> None:
    images = save_pictures(tmp_path / "images")
    options = ("--task", "image_classes", "--images", images, "--output", tmp_path / "out")
    (images / "cat").rename(images / "fish")
    assert_one_line(call(folder / "vit", *options), "knows no class 'fish', .* it knows bird, cat, dog")
    shutil.move(images / "fish" / "0.png", images)
    assert_one_line(call(folder / "vit", *options), "0.png lies in no folder of its class: give .* one for each")


def test_models_and_tasks_that_do_not_fit(folder: Path, call: Call, tmp_path: Path) -> None:
    images, output = ("--images", folder / "images"), ("--output", tmp_path / "out")
    text = call(folder / "vit", "--task", "text", "--text", "x", *output)
    assert_one_line(text, "vit takes images: image_classes is the task for it")
    assert_one_line(
        call(folder / "gpt", "--task", "image_classes", *images, *output), "gpt takes no images, and image_c"
    )
    assert_one_line(
        call(folder / "gpt", "--task", "speech", "--audio", folder, *output), "takes no sound, which speech"
    )
    assert_one_line(call(folder / "vit", "--task", "image_classes", *output), "image_classes needs --images DIR", 2)
    given = call(folder / "vit", "--task", "image_classes", *images, "--calibration", "x", *output)
    assert_one_line(given, "takes images, of which --calibration has none: leave it out")


def test_speech(call: Call, tmp_path: Path) -> None:
    save_ctc(tmp_path / "ctc")
    sounds = save_sounds(tmp_path / "sounds")
    options = ("--task", "speech", "--audio", sounds, "--limit", 3)
    finished = call(tmp_path / "ctc", *options, "--output", tmp_path / "out")
    assert finished.code == 0, finished.err
    task = read(tmp_path / "out")
    assert (task["rows"], task["unit"], task["agreement"]) == (3, "sounds", 1)
    assert [(m["metric"], m["ann"], m["snn"]) for m in task["measures"]] == [("tokens as the ANN's", 1, 1)]


def test_text_to_text(folder: Path, call: Call, tmp_path: Path) -> None:
    """Lines of other lengths, blank ones left out; a decoder alone has another task, and says which."""
    save_t5(tmp_path / "t5")
    (tmp_path / "lines.txt").write_text("Speak, speak.\n\nYou are all resolved rather to die than to famish?\nNo more")
    options = ("--task", "text_to_text", "--text", tmp_path / "lines.txt")
    finished = call(tmp_path / "t5", *options, "--output", tmp_path / "out")
    assert finished.code == 0, finished.err
    task = read(tmp_path / "out")
    assert (task["rows"], task["unit"], task["agreement"]) == (3, "lines", 1)
    assert [(m["metric"], m["ann"], m["snn"]) for m in task["measures"]] == [("tokens as the ANN's", 1, 1)]
    assert task["spikes_per_neuron"] > 0
    again = ("--output", tmp_path / "again")
    assert_one_line(call(tmp_path / "t5", "--task", "text", *options[2:], *again), "text_to_text is the task for it")
    assert_one_line(call(folder / "gpt", *options, *again), "has no decoder after an encoder of text")
    assert_one_line(call(tmp_path / "t5", *options[:2], *again), "text_to_text needs --text FILE", 2)
