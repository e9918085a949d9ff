"""Pairs of an image or a sound and a text, from a file of JSON lines."""

import json
from pathlib import Path

from las_sj.data.example_error import ExampleError
from las_sj.data.examples import Example
from las_sj.data.text import read_lines, why

FORM = '{"text": "…", "image": "FILE"}, or "audio" in place of "image"'


def read_pairs(file: Path) -> list[Example]:
    """Texts with an image or a sound each, whose paths are relative to the file.

    Args:
        file: of JSON objects, one a line, with "text" and "image" or "audio".

    Raises:
        ExampleError: it cannot be read, a line is malformed, or what it names is not there.
    """
    try:
        lines = read_lines(file)
    except (OSError, UnicodeDecodeError) as error:
        raise ExampleError(f"cannot read pairs from {file} ({why(error)}): give a file of JSON lines") from None
    pairs = [_pair(line, file, number) for number, line in enumerate(lines, 1) if line.strip()]
    if not pairs:
        raise ExampleError(f"{file} holds no pairs: give lines like {FORM}")
    return pairs


def _pair(line: str, file: Path, number: int) -> Example:
    place = f"{file}, line {number}"
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise ExampleError(f"{place} is no JSON object: write {FORM}")
    text = row.get("text")
    if not isinstance(text, str) or not text.strip():
        raise ExampleError(f"{place} has no text: write {FORM}")
    if ("image" in row) == ("audio" in row):
        raise ExampleError(f"{place} must name an image or an audio file, one of them: write {FORM}")
    named = "image" if "image" in row else "audio"
    path = _path(row[named], file, f"{place}: {named}")
    return Example(image=path, text=text) if named == "image" else Example(sound=path, text=text)


def _path(value: object, file: Path, place: str) -> Path:
    if not isinstance(value, str) or not value:
        raise ExampleError(f"{place} must be the path of a file")
    path = file.parent / value
    if not path.is_file():
        raise ExampleError(f"{place} names {path}, which is no file: paths are relative to {file.name}")
    return path
