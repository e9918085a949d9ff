"""Models of images, and of images with texts, from the command line: converted, reported, inspected."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Finished, in_this_process
from tiny_media import (
    save_ctc,
    save_pictures,
    save_sounds,
    save_t5,
    save_vision_language,
    save_vit,
    save_whisper,
    vit,
    write_pairs,
)
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer

from las_sj.checkpoint.loading import load_converted
from las_sj.checkpoint.sample import SAMPLE, load_sample
from las_sj.commands import convert, inspect, report
from las_sj.data.images import read_image

STEPS = ("--time-steps", 12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, pictures and pairs."""
    folder = tmp_path_factory.mktemp("media")
    save_vit(folder / "vit")
    save_vision_language("llava", folder / "llava")
    save_vision_language("qwen2_vl", folder / "qwen2_vl")
    save_ctc(folder / "ctc")
    save_whisper(folder / "whisper")
    save_t5(folder / "t5")
    save_sounds(folder / "sounds")
    (folder / "text.txt").write_text("All: Speak, speak.\nFirst Citizen: You are all resolved rather to die?\n" * 4)
    write_pairs(folder / "spoken.jsonl", [{"text": "Speak", "audio": "sounds/0.wav"}] * 2)
    save_pictures(folder / "images")
    rows = [
        {"text": f"What is {name}?", "image": f"images/{name}/{number}"}
        for name in ("cat", "dog")
        for number in ("0.png", "1.jpg")
    ]
    write_pairs(folder / "pairs.jsonl", rows)
    return folder


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    def run(main: Callable[[list[str]], None], *arguments: object) -> Finished:
        with in_this_process(main, capfd) as command:
            finished = command(*arguments)
        assert finished.code == 0, finished.err
        return finished

    return run


def read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "las_report.json").read_text())
    return found


@pytest.fixture(scope="module")
def converted(folder: Path) -> Path:
    convert.main(
        [str(part) for part in (folder / "vit", "--images", folder / "images", *STEPS, "--output", folder / "out")]
    )
    return folder / "out"


def test_images(converted: Path, folder: Path) -> None:
    report = read(converted)
    quality = report["quality"]
    assert (quality["tokens"], quality["predicts"], quality["ann"]["perplexity"]) == (1, "class", None)
    assert quality["relative_error"] < 1e-2
    assert report["coverage"]["analog"] == {}
    images = folder / "images"
    assert report["data"] == {"calibration": f"5 of the images in {images}", "evaluation": "1, others of these"}
    pixels = AutoImageProcessor.from_pretrained(converted)(read_image(images / "dog" / "0.png"), return_tensors="pt")
    (sample,) = load_sample(converted, main="pixel_values")
    torch.testing.assert_close(sample["pixel_values"], pixels["pixel_values"])
    with torch.no_grad():
        expected, found = vit()(**sample).logits, load_converted(converted)[0](**sample).logits
    assert float((found - expected).norm() / expected.norm()) < 1e-2


@pytest.mark.parametrize("options", [(), ("--images", "images", "--samples", 2)])
def test_report_of_images(
    options: tuple[object, ...],
    converted: Path,
    folder: Path,
    call: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    file = tmp_path / "report.json"
    finished = call(report.main, converted, "--format", "json", "--no-equal-loss", "--output", file, *options)
    found = json.loads(file.read_text())
    assert (found["tokens"], found["samples"]) == (0, 2 if options else 1)
    assert found["data_of_this_report"] == ("images" if options else "the sample kept with the model")
    assert found["audit"]["fully_spike_driven"] is True
    assert finished.out.startswith("2 samples, " if options else "1 sample, ")


def test_page_of_images(converted: Path, call: Any, tmp_path: Path) -> None:
    call(report.main, converted, "--no-equal-loss", "--output", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "same most likely class (conversion)" in page
    assert page.count("<img ") > 5
    assert "per token" not in page


def test_inspect_images(converted: Path, call: Any, tmp_path: Path) -> None:
    assert "classifier.input_node" in call(inspect.main, converted).out
    (converted / SAMPLE).rename(tmp_path / SAMPLE)
    try:
        finished = call(inspect.main, converted)
    finally:
        (tmp_path / SAMPLE).rename(converted / SAMPLE)
    assert finished.visible == [f"{converted} has no {SAMPLE}; counting for noise instead"]


@pytest.mark.parametrize(
    ("model", "options", "calibration"),
    [
        ("llava", ("--pairs", "pairs.jsonl"), "4 of the pairs in pairs.jsonl"),
        (
            "qwen2_vl",
            ("--images", "images", "--samples", 3),
            '3 of the images in images, each with the text "What is this?"',
        ),
    ],
)
def test_images_with_texts(
    model: str,
    options: tuple[object, ...],
    calibration: str,
    folder: Path,
    call: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    call(convert.main, model, *options, *STEPS, "--output", tmp_path / "out")
    found = read(tmp_path / "out")
    assert found["data"]["calibration"] == calibration
    assert found["quality"]["relative_error"] < 1e-2
    assert found["coverage"]["analog"] == {}
    AutoProcessor.from_pretrained(tmp_path / "out")
    (sample,) = load_sample(tmp_path / "out")
    assert {"input_ids", "attention_mask", "pixel_values"} <= sample.keys()
    call(report.main, tmp_path / "out", "--format", "json", "--no-equal-loss")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["tokens"] == sample["input_ids"].numel()
    call(inspect.main, tmp_path / "out", "--format", "json")


@pytest.mark.parametrize(
    ("model", "options", "predicts", "inputs"),
    [
        ("ctc", ("--audio", "sounds"), "token of a frame", {"input_values"}),
        ("whisper", ("--audio", "sounds", "--samples", 2), "token", {"input_features", "decoder_input_ids"}),
        ("whisper", ("--pairs", "spoken.jsonl"), "token", {"input_features", "decoder_input_ids"}),
        ("t5", ("--calibration", "text.txt"), "token", {"input_ids", "attention_mask", "decoder_input_ids"}),
    ],
)
def test_sound_and_decoders(
    model: str,
    options: tuple[object, ...],
    predicts: str,
    inputs: set[str],
    folder: Path,
    call: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    call(convert.main, model, *options, *STEPS, "--output", tmp_path / "out")
    quality = read(tmp_path / "out")["quality"]
    assert (quality["predicts"], quality["top1_agreement"]) == (predicts, 1)
    assert quality["relative_error"] < 1e-2
    (sample,) = load_sample(tmp_path / "out", main=min(inputs - {"decoder_input_ids", "attention_mask"}))
    assert inputs <= sample.keys()
    if "--pairs" in options:
        spoken = AutoTokenizer.from_pretrained(folder / model)("Speak")["input_ids"]
        assert sample["decoder_input_ids"].tolist() == [[5, *spoken[:-1]]]
    call(report.main, tmp_path / "out", "--format", "json", "--no-equal-loss")
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert found["audit"]["fully_spike_driven"] is True
    assert "theta_normal" in call(inspect.main, tmp_path / "out").out


def test_generated_data(folder: Path, call: Any, tmp_path: Path) -> None:
    finished = call(convert.main, folder / "llava", "--samples", 2, *STEPS, "--output", tmp_path / "out")
    instead = "images of noise with random text"
    assert f"no data given: {instead} instead; give some with --pairs FILE or --images DIR" in finished.visible
    assert read(tmp_path / "out")["data"] == {"calibration": f"none given: {instead}", "evaluation": "likewise"}


def test_what_is_compared_on_can_be_given(folder: Path, call: Any, tmp_path: Path) -> None:
    given = ("--images", folder / "images" / "cat", "--evaluation", folder / "images" / "dog")
    call(convert.main, folder / "vit", *given, *STEPS, "--output", tmp_path / "out")
    data = read(tmp_path / "out")["data"]
    assert data["calibration"] == f"2 of the images in {folder / 'images' / 'cat'}"
    assert data["evaluation"] == f"2, {folder / 'images' / 'dog'}"
