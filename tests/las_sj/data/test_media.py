"""Files of images, sounds and pairs, and how examples are shared out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_media import save_pictures, save_sounds, write_pairs

from las_sj.data.example_error import ExampleError
from las_sj.data.examples import Example, evenly, split_examples
from las_sj.data.images import read_image
from las_sj.data.media import read_media
from las_sj.data.pairs import read_pairs


def test_images_in_any_layout(tmp_path: Path) -> None:
    folder = save_pictures(tmp_path / "images")
    (folder / "top.PNG").write_bytes((folder / "cat" / "0.png").read_bytes())
    for hidden in (folder / ".thumbnails" / "0.png", folder / "cat" / ".0.png", folder / "notes.txt"):
        hidden.parent.mkdir(exist_ok=True)
        hidden.write_bytes(b"")
    files = [example.image for example in read_media("images", folder).examples]
    names = ["bird/0.png", "bird/1.jpg", "cat/0.png", "cat/1.jpg", "dog/0.png", "dog/1.jpg", "top.PNG"]
    assert files == [folder / name for name in names]


def test_sounds(tmp_path: Path) -> None:
    folder = save_sounds(tmp_path / "sounds")
    assert [example.sound for example in read_media("audio", folder).examples] == sorted(folder.iterdir())


@pytest.mark.parametrize(("kind", "noun"), [("images", "images"), ("audio", "sounds")])
def test_folders_without_any(kind: str, noun: str, tmp_path: Path) -> None:
    with pytest.raises(ExampleError, match=f"{tmp_path} holds no {noun} .*: give a folder that does"):
        read_media(kind, tmp_path)
    with pytest.raises(ExampleError, match=f"there is no folder {tmp_path / 'x'}: give a folder of {noun}"):
        read_media(kind, tmp_path / "x")
    (tmp_path / "x").write_text("")
    with pytest.raises(ExampleError, match=f"{tmp_path / 'x'} is a file: give a folder of {noun}"):
        read_media(kind, tmp_path / "x")


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16"])
def test_pictures_of_every_mode(mode: str, tmp_path: Path) -> None:
    source = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    image = Image.new(mode, (16, 16)) if mode == "I;16" else source.convert(mode)
    image.save(tmp_path / ("a.tif" if mode in ("CMYK", "I;16") else "a.png"))
    read = read_image(next(tmp_path.iterdir()))
    assert (read.mode, read.size) == ("RGB", (16, 16))


def test_pictures_stand_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 4))
    exif = image.getexif()
    exif[0x0112] = 6  # held on its side
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").size == (4, 8)


def test_broken_pictures_are_named(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"no picture")
    with pytest.raises(ExampleError, match=r"cannot read the image .*a.png .it is none that Pillow knows.: give"):
        read_image(file)
    Image.fromarray(np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ExampleError, match=r"cannot read the image .*a.png .*: give another"):
        read_image(file)


def test_a_picture_larger_than_any_photograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (40, 40)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ExampleError, match=r"cannot read the image .*a.png .*exceeds limit"):
        read_image(tmp_path / "a.png")


def test_pairs(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.wav"):
        (tmp_path / "in" / name).write_bytes(b"")
    rows = [{"text": "What?", "image": "in/a.png", "label": "yes"}, {"text": "Who?", "audio": "in/b.wav"}]
    file = write_pairs(tmp_path / "pairs.jsonl", rows)
    file.write_text("\n" + file.read_text() + "\n")
    image, sound = tmp_path / "in" / "a.png", tmp_path / "in" / "b.wav"
    assert read_pairs(file) == [Example(image=image, text="What?"), Example(sound=sound, text="Who?")]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2 is no JSON object: write"),
        ("[1]", "line 2 is no JSON object: write"),
        ({"image": "a.png"}, "line 2 has no text: write"),
        ({"text": " ", "image": "a.png"}, "line 2 has no text: write"),
        ({"text": 3, "image": "a.png"}, "line 2 has no text: write"),
        ({"text": "What?"}, "line 2 must name an image or an audio file, one of them: write"),
        ({"text": "What?", "image": "a.png", "audio": "a.wav"}, "line 2 must name an image or an audio file"),
        ({"text": "What?", "image": 3}, "line 2: image must be the path of a file"),
        (
            {"text": "What?", "image": "b.png"},
            "line 2: image names .*b.png, which is no file: .*relative to pairs",
        ),
    ],
)
def test_lines_that_are_no_pairs(line: Any, says: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    good, bad = json.dumps({"text": "What?", "image": "a.png"}), line if isinstance(line, str) else json.dumps(line)
    (tmp_path / "pairs.jsonl").write_text(f"{good}\n{bad}\n")
    with pytest.raises(ExampleError, match=f"pairs.jsonl, {says}"):
        read_pairs(tmp_path / "pairs.jsonl")


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "cannot read pairs from .*No such file"), (b"\xff", "byte 0 is no UTF-8"), (b"\n", "holds no pairs: give")],
)
def test_files_that_hold_no_pairs(content: bytes | None, says: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "pairs.jsonl").write_bytes(content)
    with pytest.raises(ExampleError, match=says):
        read_pairs(tmp_path / "pairs.jsonl")


def test_some_of_many_come_from_all_over() -> None:
    assert evenly(range(100), 5) == [0, 20, 40, 60, 80]
    assert evenly(range(3), 5) == [0, 1, 2]


@pytest.mark.parametrize(("count", "kept", "held"), [(1, 1, 1), (4, 4, 1), (5, 4, 1), (10, 8, 2), (20, 16, 4)])
def test_every_fifth_is_held_out(count: int, kept: int, held: int) -> None:
    examples = [Example(text=str(number)) for number in range(count)]
    calibration, evaluation = split_examples(examples)
    assert (len(calibration), len(evaluation)) == (kept, held)
    assert count < 5 or {*calibration} | {*evaluation} == {*examples}
    assert count < 5 or not {*calibration} & {*evaluation}
