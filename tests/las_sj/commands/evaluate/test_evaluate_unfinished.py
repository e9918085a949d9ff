"""python -m las_sj.evaluate that is killed, interrupted, or finds the disk full, and started again."""

import json
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
from commands import Call, assert_one_line, contents, interrupted, one_thread
from evaluations import FILES, arguments_of, figures, read
from programs import started

from las_sj.checkpoint.loading import default_model

pytest.importorskip("lm_eval", reason="the extra evaluate is not installed")


def test_killed_and_started_again(call: Call, converted: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    records = tmp_path / "out.unfinished" / "text.0.jsonl"
    with one_thread():
        assert call(*arguments_of(converted, whole)[2:]).code == 0
    with started(*arguments_of(converted, out)) as running:
        while not (records.exists() and records.read_bytes().count(b"\n") >= 5):
            assert not running.ended
            time.sleep(0.005)
        running.send(signal.SIGKILL)
    finished = records.read_bytes().count(b"\n")
    assert 5 <= finished < 94
    assert not out.exists()
    kept = records.read_bytes()
    assert_one_line(call(*arguments_of(converted, out, "--limit", 100)[2:]), "other limit: --restart begins anew")
    other = shutil.copytree(converted, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["quantization_config"]["seed"] += 1  # no digest of a node holds it
    (other / "config.json").write_text(json.dumps(config))
    assert_one_line(call(*arguments_of(other, out)[2:]), "other configuration of the model: --restart begins anew")
    shutil.rmtree(other)
    assert records.read_bytes() == kept
    with one_thread():
        again = call(*arguments_of(converted, out)[2:])
    assert again.code == 0, again.err
    assert f"{finished}/94" in again.err  # the bar begins where it was
    assert figures(read(out)) == figures(read(whole))
    assert contents(tmp_path) == {f"{a}{b}" for a in ("whole", "out") for b in ("", *(f"/{name}" for name in FILES))}


def test_error_after_finished_batches(call: Call, converted: Path, tmp_path: Path) -> None:
    """The line says that they are kept; and they are."""
    text = tmp_path / "data" / "wikitext-2-raw" / "wiki.test.raw"
    text.parent.mkdir(parents=True)
    text.write_text("a")
    more = ("--task", "text,wikitext2", "--data-dir", tmp_path / "data", "--limit", 100)
    arguments = arguments_of(converted, tmp_path / "out", *more)[2:]
    kept = "finished batches are kept in .*out.unfinished, the same command goes on"
    assert_one_line(call(*arguments), f"fewer than two tokens.*; {kept}")
    text.write_text("To be, or not to be.")
    assert call(*arguments).code == 0
    assert [task["task"] for task in read(tmp_path / "out")["tasks"]] == ["text", "wikitext2"]


@pytest.mark.parametrize("most", [400, 700, 4000])
def test_full_disk(most: int, call: Call, converted: Path, tmp_path: Path) -> None:
    """The system refuses to make a file longer than this: the fingerprint, the records, the picture."""
    arguments = arguments_of(converted, tmp_path / "out", "--limit", 300)[2:]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        finished = call(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    kept = most > 400
    assert_one_line(
        finished,
        "file too large.*: make room, or write elsewhere"
        + "; finished batches are kept in .*, the same command goes on" * kept,
    )
    assert {path.split("/")[0] for path in contents(tmp_path)} == ({"out.unfinished"} if kept else set())
    assert call(*arguments).code == 0
    assert contents(tmp_path) == {"out", *(f"out/{name}" for name in FILES)}


def test_interrupted_before_it_goes_on(call: Call, tmp_path: Path) -> None:
    """What an earlier run finished is said to be there, as the network is still being made."""
    text = tmp_path / "data" / "wikitext-2-raw" / "wiki.test.raw"
    text.parent.mkdir(parents=True)
    text.write_text("a")
    more = ("--task", "text,wikitext2", "--data-dir", tmp_path / "data", "--limit", 100)
    arguments = arguments_of(default_model(), tmp_path / "out", *more)
    assert call(*arguments[2:]).code == 1
    last = interrupted(*arguments, shown=b"calibrating", number=signal.SIGTERM)
    assert last == f"interrupted: finished batches are kept in {tmp_path / 'out.unfinished'}, the same command goes on"


def test_interrupted(converted: Path, tmp_path: Path) -> None:
    last = interrupted(*arguments_of(converted, tmp_path / "out"), shown=rb"text: .* [1-9]\d*/94")
    assert last == f"interrupted: finished batches are kept in {tmp_path / 'out.unfinished'}, the same command goes on"
    assert not (tmp_path / "out").exists()
