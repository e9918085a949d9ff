"""Images, sounds and pairs that cannot be used: one line that says what to do, and nothing left."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from commands import assert_one_line, contents, in_this_process
from tiny_media import save_pictures, save_sounds, save_vision_language, save_vit, write_pairs
from tiny_models import bert, save
from transformers import BertForMaskedLM, Wav2Vec2FeatureExtractor

from las_sj.commands import convert, evaluate, inspect, report

Edit = Callable[[Path], object]
MAINS = {"convert": convert.main, "evaluate": evaluate.main, "report": report.main, "inspect": inspect.main}


class Bad(NamedTuple):
    model: str
    options: tuple[object, ...]
    says: str
    code: int = 1
    edit: Edit = lambda folder: None
    command: str = "convert"


def file(name: str, content: bytes) -> Edit:
    return lambda folder: (folder / name).write_bytes(content)


def without(name: str) -> Edit:
    return lambda folder: (folder / name).unlink()


def pair(**row: object) -> Edit:
    return lambda folder: write_pairs(folder / "pairs.jsonl", [row])


def of_another_rate(folder: Path) -> None:
    (folder / "sounds" / "0.wav").write_bytes(b"RIFF")


IMAGES, AUDIO, PAIRS = ("--images", "images"), ("--audio", "sounds"), ("--pairs", "pairs.jsonl")
BAD: dict[str, Bad] = {
    # a wrong command line
    "images and sounds": Bad("vit", (*IMAGES, *AUDIO), "--images and --audio exclude each other: give one", 2),
    "text and pairs": Bad("vit", (*PAIRS, "--calibration", "x"), "--calibration and --pairs exclude each", 2),
    "no samples": Bad("vit", (*IMAGES, "--samples", 0), "--samples must be at least 1, got 0", 2),
    "no folder named": Bad("vit", ("--images",), "--images: expected one argument", 2),
    "only to compare on": Bad(
        "vit", ("--evaluation", "images"), "--evaluation needs --calibration too, or --images", 2
    ),
    "text and images, reported": Bad(
        "vit", (*IMAGES, "--text", "x"), "--text and --images exclude", 2, command="report"
    ),
    # folders
    "no folder": Bad("vit", ("--images", "x"), "there is no folder x: give a folder of images"),
    "a file": Bad("vit", ("--images", "pairs.jsonl"), "pairs.jsonl is a file: give a folder of images"),
    "no image": Bad("vit", ("--images", "sounds"), "sounds holds no images .*: give a folder that does"),
    "no sound": Bad("vit", ("--audio", "images"), "images holds no sounds .*: give a folder that does"),
    "no image to compare on": Bad("vit", (*IMAGES, "--evaluation", "sounds"), "sounds holds no images"),
    "no image, reported": Bad("vit", ("--images", "sounds"), "sounds holds no images", command="report"),
    # files
    "broken image": Bad("vit", IMAGES, r"image images/cat/0.png .*: give another", edit=file("images/cat/0.png", b"x")),
    "broken image of a pair": Bad("llava", PAIRS, "cat/0.png .*: give another", edit=file("images/cat/0.png", b"x")),
    "pairs without text": Bad("llava", PAIRS, "pairs.jsonl, line 1 has no text: write", edit=pair(image="a.png")),
    "pairs without image": Bad("llava", PAIRS, "line 1 must name an image or an audio file", edit=pair(text="a")),
    "lost image": Bad("llava", PAIRS, "image names a.png, which is no file", edit=pair(text="a", image="a.png")),
    "no pairs": Bad("llava", ("--pairs", "x"), "cannot read pairs from x .No such file.*: give"),
    # what the model does not take
    "images for a model of text": Bad("bert", IMAGES, "bert takes text: give --calibration FILE, not --images"),
    "pairs for a model of text": Bad("bert", PAIRS, "bert takes text: give --calibration FILE, not --pairs"),
    "sound for a model of images": Bad("vit", AUDIO, "vit takes images: give --images DIR, not --audio"),
    "text for a model of images": Bad(
        "vit", ("--calibration", "text.txt"), "takes images: give --images DIR, not --cal"
    ),
    "pairs for a model of images": Bad("vit", PAIRS, "vit takes images: give --images DIR, not --pairs"),
    "text for images with text": Bad(
        "llava", ("--calibration", "text.txt"), "takes text and images: give --pairs FILE or --images DIR, not --cal"
    ),
    "sound for images with text": Bad(
        "llava", PAIRS, "takes no sound, which --pairs has: give", edit=pair(text="a", audio="sounds/0.wav")
    ),
    "images for the default model": Bad("", IMAGES, "--images needs a model that takes it: name one", 2),
    "text, reported": Bad(
        "vit", ("--text", "text.txt"), "takes images: give --images DIR, not --text", command="report"
    ),
    "sound, reported": Bad("vit", AUDIO, "takes images: give --images DIR, not --audio", command="report"),
    # processors
    "no processor": Bad(
        "vit", IMAGES, "no image processor in vit .*: save", edit=without("vit/preprocessor_config.json")
    ),
    "broken processor": Bad(
        "vit",
        IMAGES,
        "image processor of vit cannot be loaded .*: save",
        edit=file("vit/preprocessor_config.json", b"{"),
    ),
    "no processor of both": Bad(
        "llava", PAIRS, "no processor of text and images in llava .*: save", edit=without("llava/processor_config.json")
    ),
    "remote code": Bad(
        "vit",
        IMAGES,
        "never run unasked: give .* or --trust-remote-code where you trust",
        edit=file("vit/config.json", json.dumps({"model_type": "new", "auto_map": {"AutoConfig": "x.Y"}}).encode()),
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    save_vit(folder / "vit")
    save_vision_language("llava", folder / "llava")
    save(bert(BertForMaskedLM, vocab_size=512), folder / "bert")
    save_pictures(folder / "images", 2)
    save_sounds(folder / "sounds")
    write_pairs(folder / "pairs.jsonl", [{"text": "What?", "image": "images/cat/0.png"}])
    (folder / "text.txt").write_text("All: Speak, speak.\n" * 20)
    convert.main(
        [str(part) for part in (folder / "vit", *("--time-steps", 4), "--samples", 1, "--output", folder / "out")]
    )
    return folder


@pytest.mark.parametrize("case", list(BAD))
def test_bad_media(
    case: str, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = BAD[case]
    shutil.copytree(folder, tmp_path / "copy")
    bad.edit(tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    before = contents(tmp_path)
    model = "out" if bad.command == "report" else bad.model
    output = () if bad.command == "report" else ("--output", "new")
    with in_this_process(MAINS[bad.command], capfd) as call:
        finished = call(*([model] if model else []), *output, *bad.options)
    assert_one_line(finished, bad.says, bad.code)
    assert contents(tmp_path) == before


def test_a_feature_extractor_is_no_image_processor(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "vit", tmp_path / "vit")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "vit")
    with in_this_process(convert.main, capfd) as call:
        finished = call(tmp_path / "vit", "--images", folder / "images", "--output", tmp_path / "new")
    assert_one_line(finished, "image processor of .*vit cannot be loaded .*: save that of the original model")
