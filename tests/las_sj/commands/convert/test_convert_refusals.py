"""python -m las_sj.convert with every input that must end in one clear line."""

import json
import resource
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from commands import Call, assert_interruptible, assert_one_line, contents, in_this_process
from conversions import COMMAND, start
from tiny_models import gpt2, save
from transformers import (
    AutoModelForCausalLM,
    GPT2Model,
    YosoConfig,
    YosoForMaskedLM,
)

from las_sj.commands.convert import main

Broken = tuple[Callable[[Path, Path], list[str | Path]], str]


def edited(change: Callable[[Any], None]) -> Callable[[Path, Path], list[str | Path]]:
    """The source model with other weights."""

    def build(source: Path, folder: Path) -> list[str | Path]:
        model = AutoModelForCausalLM.from_pretrained(source)
        with torch.no_grad():
            change(model)
        return [save(model, folder / "model"), "--calibration", folder / "text.txt"]

    return build


def with_nan(model: Any) -> None:
    model.transformer.h[1].mlp.c_fc.weight[3, 4] = float("nan")


def with_overflow(model: Any) -> None:
    model.transformer.h[1].mlp.c_fc.weight.fill_(3e38)


def with_file(name: str, edit: Callable[[bytes], bytes]) -> Callable[[Path, Path], list[str | Path]]:
    """The source model with one file changed."""

    def build(source: Path, folder: Path) -> list[str | Path]:
        model = shutil.copytree(source, folder / "model")
        (model / name).write_bytes(edit((model / name).read_bytes()))
        return [model, "--calibration", folder / "text.txt"]

    return build


def without_file(name: str) -> Callable[[Path, Path], list[str | Path]]:
    def build(source: Path, folder: Path) -> list[str | Path]:
        model = shutil.copytree(source, folder / "model")
        (model / name).unlink()
        return [model, "--calibration", folder / "text.txt"]

    return build


def without_weight(source: Path, folder: Path) -> list[str | Path]:
    def edit(content: bytes) -> bytes:
        tensors = safetensors.torch.load(content)
        del tensors["transformer.h.1.ln_1.bias"]
        return safetensors.torch.save(tensors, {"format": "pt"})

    return with_file("model.safetensors", edit)(source, folder)


def yoso(source: Path, folder: Path) -> list[str | Path]:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    config = YosoConfig(vocab_size=512, max_position_embeddings=64, **sizes)
    return [save(YosoForMaskedLM(config), folder / "yoso")]


def no_layers(source: Path, folder: Path) -> list[str | Path]:
    return [save(gpt2(GPT2Model, vocab_size=512, n_layer=0), folder / "model"), "--keep-analog", "ln_f"]


def converted_already(source: Path, folder: Path) -> list[str | Path]:
    return with_file("config.json", _with_quantization)(source, folder)


def _with_quantization(content: bytes) -> bytes:
    return json.dumps({**json.loads(content), "quantization_config": {"quant_method": "las"}}).encode()


def option(*arguments: str) -> Callable[[Path, Path], list[str | Path]]:
    return lambda source, folder: [source, *arguments]


def text_file(content: bytes | None) -> Callable[[Path, Path], list[str | Path]]:
    def build(source: Path, folder: Path) -> list[str | Path]:
        if content is not None:
            (folder / "other.txt").write_bytes(content)
        return [source, "--calibration", folder / "other.txt"]

    return build


BROKEN: dict[str, Broken] = {
    "missing folder": (lambda source, folder: [folder / "nowhere"], "nowhere"),
    "folder without a model": (lambda source, folder: [folder], "config.json|model_type"),
    "unknown function": (yoso, r"no spiking form of acos .yoso.encoder.layer.0.attention.self, "),
    "nothing to convert": (no_layers, "GPT2Model has no layer that can be converted"),
    "converted already": (converted_already, r"quantised already \(las\)"),
    "T=0": (option("--time-steps", "0"), "--time-steps must be an integer in 1…24, got 0"),
    "T=25": (option("--time-steps", "25"), "--time-steps must be an integer in 1…24, got 25"),
    "levels=0": (option("--levels", "0"), "--levels must be an integer in 1…127, got 0"),
    "no spikes": (option("--max-spikes", "0"), "--max-spikes must be"),
    "headroom": (option("--headroom", "0.5"), "--headroom must lie in"),
    "lines": (option("--hg-lines", "7"), "--hg-lines must be an integer in 8…1024 or None, got 7"),
    "tolerance": (option("--hg-tolerance", "nan"), "--hg-tolerance must lie in"),
    "pattern": (option("--keep-analog", "nothing"), "--keep-analog nothing: 'nothing' names no module"),
    "window": (option("--window", "1"), "--window must be at least 2, got 1"),
    "batch": (option("--batch-size", "0"), "--batch-size must be at least 1, got 0"),
    "tokens": (option("--calibration-tokens", "0"), "--calibration-tokens must be at least 2"),
    "device": (option("--device", "no-such-device"), "--device must be cpu, cuda"),
    "missing text": (text_file(None), "cannot read text from .*other.txt"),
    "empty text": (text_file(b""), "other.txt is empty: give a file with text"),
    "blank text": (text_file(b" \n\n"), "other.txt is empty: give a file with text"),
    "binary text": (text_file(b"\xff\x00\xfe"), "cannot read text from .*other.txt"),
    "one word": (text_file(b"a"), "fewer than two tokens"),
    "evaluation only": (lambda s, f: [s, "--evaluation", f / "text.txt"], "--evaluation needs --calibration"),
    "NaN weight": (edited(with_nan), "weight transformer.h.1.mlp.c_fc.weight in .* has infinite or NaN values"),
    "overflow": (edited(with_overflow), "activations are infinite or NaN at transformer.h.1.mlp.c_fc"),
    "truncated weights": (with_file("model.safetensors", lambda b: b[: len(b) // 2]), "safetensors|header|incomplete"),
    "empty weights": (with_file("model.safetensors", lambda b: b""), "safetensors|header"),
    "no weights": (without_file("model.safetensors"), "model.safetensors"),
    "broken config": (with_file("config.json", lambda b: b[: len(b) // 2]), "json"),
    "config of a wrong type": (
        with_file("config.json", lambda b: b.replace(b'"n_embd": 32', b'"n_embd": "wide"')),
        "n_embd",
    ),
    "missing weight": (without_weight, "lacks weights of GPT2LMHeadModel: transformer.h.1.ln_1.bias"),
    "no tokenizer": (without_file("tokenizer.json"), "token"),
}
USAGE = {
    *("T=0", "T=25", "levels=0", "no spikes", "headroom", "tolerance", "lines"),
    *("window", "batch", "tokens", "device", "evaluation only"),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_broken_input(case: str, call: Call, source: Path, text: Path, tmp_path: Path) -> None:
    build, message = BROKEN[case]
    arguments = build(source, tmp_path)
    before = contents(tmp_path)
    finished = call(*arguments, "--output", tmp_path / "out")
    assert_one_line(finished, message, code=2 if case in USAGE else 1)
    assert contents(tmp_path) == before


def test_nan_without_data(call: Call, source: Path, text: Path, tmp_path: Path) -> None:
    """The model cannot even generate calibration data."""
    model = edited(with_nan)(source, tmp_path)[0]
    assert_one_line(call(model, "--output", tmp_path / "out"), "weight transformer.h.1.mlp.c_fc.weight in .* has .*NaN")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["file.txt/out", "file.txt"])
def test_output_at_an_impossible_place(call: Call, source: Path, text: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file.txt").write_text("content")
    before = contents(tmp_path)
    assert_one_line(call(source, "--output", tmp_path / place, "--calibration", text), "file.txt")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("bytes_left", [2_000, 50_000, 100_000])
def test_full_disk(call: Call, source: Path, text: Path, tmp_path: Path, bytes_left: int) -> None:
    """The system refuses to make a file longer than this, as it does on a full disk."""
    before = contents(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, hard))
    try:
        finished = call(source, "--output", tmp_path / "out", "--calibration", text)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_one_line(finished, "file too large|i/o error")
    assert contents(tmp_path) == before


def test_gguf_without_its_extra(
    call: Call, source: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("las_sj.extras.find_spec", lambda name: None if name == "gguf" else find_spec(name))
    before = contents(tmp_path)
    finished = call(source, "--gguf-file", "model.gguf", "--output", tmp_path / "out", "--calibration", text)
    assert_one_line(finished, r"gguf not installed: pip install 'las_sj\[gguf\]'")
    assert contents(tmp_path) == before


def test_no_space_left(capfd: pytest.CaptureFixture[str]) -> None:
    """/dev/full is a device without any."""
    with in_this_process(lambda _: Path("/dev/full").write_bytes(b"a"), capfd) as call_here:
        assert_one_line(call_here(), "No space left on device; make room, or write elsewhere")


def test_error_in_a_process_of_its_own(tmp_path: Path) -> None:
    finished = start("no-such-organisation/no-such-model", "--output", tmp_path / "out", cwd=tmp_path)
    assert_one_line(finished, "couldn't find them in the cached files")  # offline
    assert contents(tmp_path) == set()


def test_wrong_option(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--output", str(tmp_path / "out"), "--levels", "many"])
    assert raised.value.code == 2
    assert "argument --levels: invalid int value: 'many'" in capfd.readouterr().err


def test_interrupt_while_calibrating(tmp_path: Path) -> None:
    """Ctrl-C, as the progress bar is under way."""
    arguments = ["--output", "out", "--calibration-tokens", "1000000", "--batch-size", "1"]
    assert_interruptible(*COMMAND, *arguments, shown=b"calibrating", folder=tmp_path)
