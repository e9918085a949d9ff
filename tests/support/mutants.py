"""Damaged copies of a converted model, drawn by number, and a process that loads and runs them one after the other.

`python mutants.py FOLDER FIRST LAST` prints a line of JSON for each: what came of it. A mutant that ends the process
leaves its line out.
"""

import json
import random
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Edit = Callable[[random.Random, bytes], bytes]
CONFIG, WEIGHTS = "config.json", "model.safetensors"
DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
FLOATS = (0.0, -1.0, 1e-45, 1e-30, 1e30, 3.4e38, float("inf"), float("-inf"), float("nan"), 1.0)
INTEGERS = (-1, 0, 1, 5000, 2**31 - 1, -(2**31))
VALUES: tuple[Any, ...] = (
    *(None, True, False, "", "text", "16", [], [1], [[]], {}, {"a": 1}, {"a": None}, -1, 0, 1, 2, 7, 24, 25, 127, 0.5),
    *(2**31 - 1, 2**31, 2**32 + 1, 10**12, 10**30, 10**400, -(10**400), 1e-300, 1e300, 1.5, float("inf"), float("nan")),
)


def flip(draw: random.Random, content: bytes, first: int = 0, last: int | None = None) -> bytes:
    """One to four bytes changed, within [first, last)."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        changed[draw.randrange(first, len(changed) if last is None else last)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(draw: random.Random, content: bytes) -> bytes:
    """Truncated, or longer."""
    return content[: draw.randrange(len(content))] if draw.random() < 0.9 else content + bytes(draw.randint(1, 99))


def entry(draw: random.Random, content: bytes, where: str | None = None) -> bytes:
    """An entry of a JSON object, at any depth, with another value, another name, or gone."""
    config = json.loads(content)
    owner = config if where is None else config[where]
    while True:
        name = draw.choice(sorted(owner))
        if not isinstance(owner[name], dict) or not owner[name] or draw.random() < 0.3:
            break
        owner = owner[name]
    if draw.random() < 0.7:
        owner[name] = draw.choice(VALUES)
    else:
        value = owner.pop(name)
        if draw.random() < 0.5:
            owner[f"{name}x"] = value
    return json.dumps(config).encode()


def parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and data of a safetensors file."""
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def node_tensor(draw: random.Random, header: dict[str, Any]) -> str:
    """The name of a threshold or table."""
    return draw.choice(sorted(name for name in header if "node." in name))


def node_values(draw: random.Random, content: bytes) -> bytes:
    """A threshold or table in which one number, or each, is another."""
    header, data = parts(content)
    at = header[node_tensor(draw, header)]
    start, end = at["data_offsets"]
    old = data[start:end]
    kind, values = ("<f", FLOATS) if at["dtype"] == "F32" else ("<i", INTEGERS)
    new = struct.pack(kind, draw.choice(values))
    if draw.random() < 0.3:
        new = new * (len(old) // 4)
    elif draw.random() < 0.5:
        place = 4 * draw.randrange(len(old) // 4)
        new = old[:place] + new + old[place + 4 :]
    else:
        new = flip(draw, old)
    return joined(header, data[:start] + new + data[end:]) if new != old else node_values(draw, content)


def node_dtype(draw: random.Random, content: bytes) -> bytes:
    """A threshold or table of another type, of as many numbers."""
    header, data = parts(content)
    name = node_tensor(draw, header)
    old, at = header[name]["dtype"], 0
    kind = draw.choice(sorted(DTYPES.keys() - {old}))
    moved = b""
    for other in sorted(header.keys() - {"__metadata__"}, key=lambda other: header[other]["data_offsets"][0]):
        start, end = header[other]["data_offsets"]
        part = data[start:end]
        if other == name:
            count = len(part) // DTYPES[old]
            part = (
                (bytes([1]) * (count * DTYPES[kind])) if draw.random() < 0.5 else draw.randbytes(count * DTYPES[kind])
            )
            part = bytes(byte & 1 for byte in part) if kind == "BOOL" else part
            header[other]["dtype"] = kind
        header[other]["data_offsets"] = [at, at + len(part)]
        moved, at = moved + part, at + len(part)
    return joined(header, moved)


def header_entry(draw: random.Random, content: bytes) -> bytes:
    """A tensor under another name, of another shape or place, or gone from the header."""
    header, data = parts(content)
    name = draw.choice(sorted(header.keys() - {"__metadata__"}))
    what = draw.choice(("name", "shape", "place", "swap", "metadata"))
    if what == "name":
        header[f"{name}x"] = header.pop(name)
    elif what == "shape":
        header[name]["shape"] = draw.choice(([], [1], [0], [2**40], [*header[name]["shape"], 1], [-1], ["a"]))
    elif what == "place":
        header[name]["data_offsets"] = draw.choice(([0, 4], [-4, 0], [2**60, 2**61], [8, 4], []))
    elif what == "swap":
        other = node_tensor(draw, header)
        header[name], header[other] = header[other], header[name]
    else:
        header["__metadata__"] = draw.choice(({}, {"format": "tf"}, None, [], {"format": 1}))
    return joined(header, data)


KINDS: dict[str, tuple[str, Edit]] = {
    "bytes of config.json": (CONFIG, flip),
    "length of config.json": (CONFIG, cut),
    "entry of config.json": (CONFIG, entry),
    "entry of quantization_config": (CONFIG, lambda draw, content: entry(draw, content, "quantization_config")),
    "bytes of the header": (WEIGHTS, lambda draw, content: flip(draw, content, 0, 8 + len(content) // 20)),
    "bytes of the weights": (WEIGHTS, flip),
    "length of the weights": (WEIGHTS, cut),
    "entry of the header": (WEIGHTS, header_entry),
    "values of a node": (WEIGHTS, node_values),
    "type of a node": (WEIGHTS, node_dtype),
}


def mutate(number: int, original: Path, folder: Path) -> str:
    """Make `folder` a damaged copy of a model; what was done to it, in words."""
    shutil.copytree(original, folder, dirs_exist_ok=True)
    kind = list(KINDS)[number % len(KINDS)]
    file, edit = KINDS[kind]
    (folder / file).write_bytes(edit(random.Random(number), (original / file).read_bytes()))
    return kind


def outcome(folder: Path) -> dict[str, Any]:
    """What comes of loading and running a model as the commands do."""
    import torch

    import las_sj
    from las_sj.checkpoint.loading import load_converted
    from las_sj.checkpoint.node_digests import digests_of

    try:
        model, _ = load_converted(folder)
        las_sj.set_execution(model, "accumulated")
        with torch.no_grad():
            model(input_ids=torch.arange(12)[None])
    except Exception as error:
        known = isinstance(error, ValueError | OSError) and not isinstance(error, UnicodeError | json.JSONDecodeError)
        return {"error": f"{error}", "class": type(error).__name__, "known": known}
    return {"digests": digests_of(model)}


def main(original: Path, first: int, last: int) -> None:
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    for number in range(first, last):
        folder = original.parent / "mutant"
        kind = mutate(number, original, folder)
        print(json.dumps({"number": number, "kind": kind} | outcome(folder)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
