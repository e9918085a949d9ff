"""Ways of spoiling a model's folder, for tests of what commands say of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

Edit = Callable[[Path], object]


def spoiled(folder: Path, copy: Path, *edits: Edit) -> Path:
    """A copy of a folder, edited."""
    shutil.copytree(folder, copy)
    for edit in edits:
        edit(copy)
    return copy


def configured(**entries: Any) -> Edit:
    """Other entries of config.json; None removes one."""

    def edit(folder: Path) -> None:
        found = json.loads((folder / "config.json").read_text()) | entries
        kept = {name: value for name, value in found.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(kept))

    return edit


def quantised(**entries: Any) -> Edit:
    """Other entries of a converted model's settings."""

    def edit(folder: Path) -> None:
        found = json.loads((folder / "config.json").read_text())
        found["quantization_config"] |= entries
        (folder / "config.json").write_text(json.dumps(found))

    return edit


def containing(name: str, content: bytes) -> Edit:
    """A file of that content."""
    return lambda folder: (folder / name).write_bytes(content)


def linked(name: str) -> Edit:
    """A link to a device that has no end."""
    return lambda folder: (folder / name).symlink_to("/dev/zero")


def without(*names: str) -> Edit:
    """Without some files."""

    def edit(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return edit


def weighted(change: Callable[[dict[str, Tensor]], object]) -> Edit:
    """Other weights."""

    def edit(folder: Path) -> None:
        tensors = safetensors.torch.load((folder / "model.safetensors").read_bytes())
        change(tensors)
        safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return edit


def nan_in(name: str) -> Edit:
    """A weight that is no number."""
    return weighted(lambda tensors: tensors[name].view(-1)[:1].fill_(float("nan")))


def pickled(folder: Path) -> None:
    """The weights as a pickle."""
    torch.save(safetensors.torch.load((folder / "model.safetensors").read_bytes()), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def as_sentence_transformer(folder: Path) -> None:
    """The transformer in a folder of its own, as sentence-transformers may save it."""
    inner = folder / "0_Transformer"
    inner.mkdir()
    for file in list(folder.iterdir()):
        if file != inner:
            file.rename(inner / file.name)
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": inner.name}]))


def with_dense_module(folder: Path) -> None:
    """A sentence-transformer whose second module has weights."""
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "model.safetensors").write_bytes(b"")
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "path": ""}, {"idx": 1, "path": "2_Dense"}]))
