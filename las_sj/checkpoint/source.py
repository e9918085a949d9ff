"""What a name or a folder that was given for a model really holds, said before transformers is asked to load it."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, GenerationConfig
from transformers import __version__ as transformers_version

from las_sj.data.paths import check_regular
from las_sj.reasons import reason_of

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
LFS_POINTER = b"version https://git-lfs"
_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def check_source(name: str, gguf_file: str | None = None, trust: bool = False) -> None:
    """Make sure that a model can be read from where it is said to be, without unpickling and without code of its own.

    Args:
        name: a folder, or a name on the hub, of which nothing is known before it is loaded.
        gguf_file: file name within it.
        trust: whether it may have code of its own.

    Raises:
        OSError: what is there is no model that can be loaded; the message says what to do.
    """
    path = Path(name)
    try:
        is_file = path.is_file()
    except OSError as error:  # too long, or behind a folder that nobody may look into
        raise OSError(f"{name} cannot be read ({error.strerror}): check the path of the model") from None
    if is_file:
        raise OSError(f"{name} is a file: give the folder of a model, or its name on the hub{_gguf_hint([path])}")
    if path.is_dir() and name.strip():
        _check_folder(path, gguf_file, trust)
    elif not _HUB_NAME.fullmatch(name):
        raise OSError(f"there is no folder {name or repr(name)}: check the path of the model")


def _check_folder(folder: Path, gguf_file: str | None, trust: bool) -> None:
    if gguf_file is not None:
        _check_gguf(folder, gguf_file)
        return
    for entry in folder.iterdir():
        if entry.exists() and not entry.is_file() and not entry.is_dir():
            raise OSError(f"{entry} is no regular file: remove it, or save the model again")
    _check_kind(folder)
    config = read_json(folder / "config.json")
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise OSError(f"{folder / 'config.json'} names no model_type: give a model that transformers saved")
    if model_type not in CONFIG_MAPPING and "auto_map" in config:
        if not trust:
            raise OSError(f"{folder} {NEEDS_CODE}")
    elif model_type not in CONFIG_MAPPING:
        raise OSError(
            f"{folder / 'config.json'} names the model_type {model_type!r}, which transformers {transformers_version} "
            "does not know: upgrade it, or give another model"
        )
    _check_entries(folder / "config.json", config)
    _check_generation(folder / "generation_config.json")
    _check_weights(folder)


def _check_entries(file: Path, config: dict[str, Any]) -> None:
    """Raise where an entry would be read, and be found wrong only when the model runs."""
    method = config.get("quantization_config")
    if method is not None and not isinstance(method, dict):
        raise OSError(f"{file} has a quantization_config that is no JSON object: remove it, or save the model again")
    broken = next((name for name, value in config.items() if _holds_nan(value)), None)
    if broken is not None:
        raise OSError(f"{file} has NaN in {broken}: mend it, or download the model again")


def _holds_nan(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(_holds_nan(part) for part in (value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and value != value


def _check_generation(file: Path) -> None:
    """Raise where the settings of generation cannot be read: transformers would blame another file, or no one."""
    if not file.exists():
        return
    entries = read_json(file)
    try:
        GenerationConfig.from_dict(entries)
    except Exception as error:  # it compares whatever the file holds
        raise OSError(f"{file} cannot be used ({reason_of(error)}): mend it, or remove it") from None


NEEDS_CODE = (
    "needs Python code of its own (auto_map in config.json), which is never run unasked: give a model that "
    "transformers knows by itself, or --trust-remote-code where you trust its author"
)


def _check_kind(folder: Path) -> None:
    """Raise where a folder holds something else than a whole model of transformers."""
    if (folder / "adapter_config.json").exists():
        raise OSError(
            f"{folder} holds an adapter (adapter_config.json){_base_of(folder)}, no whole model: merge it into its "
            "base with peft (merge_and_unload, then save_pretrained), and give the folder of that"
        )
    modules = _modules(folder)
    if not (folder / "config.json").exists():
        inner = next((path for path in modules if (path / "config.json").exists()), None)
        if inner is not None:
            raise OSError(f"{folder} is of sentence-transformers: give the folder of the transformer in it, {inner}")
        hint = _gguf_hint(sorted(folder.glob("*.gguf")))
        raise OSError(f"{folder} holds no model (no config.json): give a folder that save_pretrained wrote{hint}")
    lost = [path.name for path in modules if path != folder and _weights_in(path)]
    if lost:
        raise OSError(
            f"{folder} is of sentence-transformers and has weights outside its transformer ({', '.join(lost)}), which "
            "would be lost: copy the transformer's files to a folder of their own, and give that"
        )


def _base_of(folder: Path) -> str:
    try:
        base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    except OSError:
        return ""
    return f" of {base}" if base else ""


def _modules(folder: Path) -> list[Path]:
    """The folders of the modules that sentence-transformers put a model together from."""
    file = folder / "modules.json"
    if not file.exists():
        return []
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        return [folder / entry["path"] for entry in entries]
    except (OSError, ValueError, KeyError, TypeError):
        raise OSError(f"{file} is broken: remove it, or download it again") from None


def _gguf_hint(files: Sequence[Path]) -> str:
    names = [file.name for file in files if file.suffix == ".gguf"]
    return f"; a GGUF file is given with its folder and --gguf-file {names[0]}" if names else ""


def _check_gguf(folder: Path, name: str) -> None:
    file = folder / name
    if not file.is_file():
        there = ", ".join(sorted(path.name for path in folder.glob("*.gguf"))) or "none"
        raise OSError(f"there is no file {file}: --gguf-file names a GGUF file in {folder} (there: {there})")
    with file.open("rb") as content:
        if content.read(4) != b"GGUF":
            raise OSError(f"{file} is no GGUF file: give one with --gguf-file, or leave that out")


def _check_weights(folder: Path) -> None:
    if not _weights_in(folder, (".safetensors",)) and not (folder / INDEX).exists():
        pickles = _weights_in(folder, PICKLES)
        if pickles:
            raise OSError(
                f"{folder} holds its weights as a pickle ({pickles[0]}), which can run any code and is never opened: "
                "save them as safetensors (save_pretrained of transformers, by somebody who trusts the file)"
            )
        raise OSError(f"{folder} holds no weights ({WEIGHTS}): download or save the model again")
    for file in _shards(folder):
        if not file.is_file():
            raise OSError(f"{folder} lacks {file.name}, a part of its weights: download or save the model again")
        with file.open("rb") as content:
            if content.read(len(LFS_POINTER)) == LFS_POINTER:
                raise OSError(f"{file} is a pointer of Git LFS, not the weights: fetch them (git lfs pull)")
    if not (folder / WEIGHTS).exists() and not isinstance(read_json(folder / INDEX).get("metadata"), dict):
        raise OSError(f"{folder / INDEX} has no metadata of the weights: download or save the model again")


def _weights_in(folder: Path, endings: Sequence[str] = (".safetensors", *PICKLES)) -> list[str]:
    """File names of weights; other pickles, such as the arguments of a training, are none."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [name for name in names if name.endswith(tuple(endings)) and re.match("(pytorch_)?model|consolidated", name)]


def _shards(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).exists() or not (folder / INDEX).exists():
        return [folder / WEIGHTS]
    parts = read_json(folder / INDEX).get("weight_map")
    files = list(parts.values()) if isinstance(parts, dict) else []
    if not files or not all(isinstance(file, str) and Path(file).name == file for file in files):
        raise OSError(f"{folder / INDEX} names no files of weights: download or save the model again")
    return [folder / part for part in sorted(set(files))]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        OSError: it cannot be read, or holds something else.
    """
    try:
        check_regular(path)
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise OSError(f"{path} is no JSON file ({error}): download or save it again") from None
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error.strerror}") from None
    if not isinstance(entries, dict):
        raise OSError(f"{path} holds no JSON object: download or save it again")
    return entries
