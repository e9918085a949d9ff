"""Bad inputs of all five commands: one line that names the file or the setting and what to do, and nothing left."""

import builtins
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bad_input_table import BAD, GLUE, TEXT, Options
from bad_inputs import (
    spoiled,
    weighted,
)
from commands import assert_one_line, contents, in_this_process
from tiny_models import bert, gpt2, save
from transformers import BertForMaskedLM, BertForSequenceClassification

from las_sj.commands import convert, evaluate, finetune, inspect, report

pytest.importorskip("lm_eval", reason="the extra evaluate is not installed")
pytest.importorskip("datasets", reason="the extra glue is not installed")

MAINS: dict[str, Callable[[list[str]], None]] = {
    "convert": convert.main,
    "evaluate": evaluate.main,
    "report": report.main,
    "inspect": inspect.main,
    "finetune": finetune.main,
}
CLASS_NAMES = re.compile(
    "|".join(name for name in dir(builtins) if re.search("(Error|Exception|Warning|Interrupt|Iteration|Exit)$", name))
    + r"|\b\w*[a-z](Error|Exception)\b|Traceback|<class|object has no attribute|not supported between|\[Errno"
    r"|must be str, not|unexpected keyword|object is not|not subscriptable|positional argument|Symlink loop"
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each kind, by name."""
    folder = tmp_path_factory.mktemp("models")
    save(gpt2(vocab_size=512), folder / "gpt")
    save(bert(vocab_size=512), folder / "bert")
    save(bert(BertForMaskedLM, vocab_size=512), folder / "masked")
    save(bert(BertForSequenceClassification, vocab_size=512, num_labels=3), folder / "three")
    (folder / "text.txt").write_text(TEXT)
    given = ("--calibration", folder / "text.txt", "--calibration-tokens", 256)
    convert.main([str(part) for part in (folder / "gpt", "--output", folder / "converted", *given)])
    return folder


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input(
    case: str, models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = BAD[case]
    spoiled(models / bad.model, tmp_path / "model", *bad.edits)
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless" / "SST-2").mkdir(parents=True)
    for split in ("train", "dev"):
        (tmp_path / "endless" / "SST-2" / f"{split}.tsv").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    output: Options = () if bad.command in ("report", "inspect") else ("--output", "out")
    with in_this_process(MAINS[bad.command], capfd) as call:
        finished = call("model", *output, *bad.options)
    assert_one_line(finished, bad.says, bad.code)
    assert not CLASS_NAMES.search(finished.err), finished.err
    assert contents(tmp_path) == before


def test_there_are_enough() -> None:
    assert len(BAD) >= 60
    assert {bad.command for bad in BAD.values()} == set(MAINS)


@pytest.mark.parametrize("command", list(MAINS))
@pytest.mark.parametrize("name", ["./nowhere", "/no/where", "no/such/folder", "x" * 300])
def test_no_folder(
    command: str, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path is no name on the hub, which is not asked."""
    monkeypatch.chdir(tmp_path)
    options: dict[str, Options] = {
        "convert": ("--output", "out"),
        "evaluate": ("--output", "out", "--task", "SST-2", "--data-dir", GLUE),
        "finetune": ("--output", "out", "--task", "SST-2", "--data", GLUE),
    }
    with in_this_process(MAINS[command], capfd) as call:
        finished = call(name, *options.get(command, ()))
    assert_one_line(finished, "there is no folder|File name too long")
    assert "huggingface.co" not in finished.err
    assert contents(tmp_path) == set()


def test_an_unforeseen_error_says_where(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: list[str]) -> Any:
        return {}["key"]

    with in_this_process(broken, capfd) as call:
        finished = call()
        assert_one_line(finished, r"unexpected failure in test_bad_inputs.py, line \d+ .'key'.: LAS_SJ_DEBUG=1 shows")
        assert not CLASS_NAMES.search(finished.err)
        monkeypatch.setenv("LAS_SJ_DEBUG", "1")
        assert 'return {}["key"]' in call().err


@pytest.mark.parametrize("base", ["bert", "masked"])
def test_models_that_belong_together(
    base: str, models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What other tools leave in a checkpoint is no loss: old buffers, BERT's pooler and its next-sentence head."""
    names = {
        "bert": ("embeddings.position_ids", "cls.seq_relationship.weight"),
        "masked": ("bert.embeddings.position_ids", "cls.seq_relationship.bias", "bert.pooler.dense.weight"),
    }
    added = weighted(lambda tensors: tensors.update({name: torch.ones(2) for name in names[base]}))
    model = spoiled(models / base, tmp_path / "model", added)
    shutil.copy(models / "text.txt", tmp_path)
    with in_this_process(convert.main, capfd) as call:
        finished = call(model, "--output", tmp_path / "out", "--calibration", tmp_path / "text.txt")
    assert finished.code == 0, finished.err
