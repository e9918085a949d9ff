"""Compiled libraries in the user's cache: whole or built again, and nothing left of builds that were killed."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from las_sj.neurons.kernels import kernel_cache
from las_sj.neurons.kernels.kernel_cache import kept_or_built

CONTENT = bytes(range(256)) * 64
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "zeros": lambda content: bytes(len(content)),
    "one bit": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "cut short": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "longer": lambda content: content + b"\0",
}
SLOW_BUILD = """
import runpy, sys, time
kept_or_built = runpy.run_path(sys.argv[2])["kept_or_built"]  # without torch, which takes seconds to import
def build(output):
    output.write_bytes(b"first half")
    print("building", flush=True)
    time.sleep(float(sys.argv[1]))
    output.write_bytes(b"built by another process")
kept_or_built("library.so", build)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAS_SJ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def built_as(content: bytes, builds: list[Path]) -> Callable[[Path], None]:
    def build(output: Path) -> None:
        builds.append(output)
        output.write_bytes(content)

    return build


def test_built_once(cache: Path) -> None:
    builds: list[Path] = []
    for _ in range(3):
        path = kept_or_built("library.so", built_as(CONTENT, builds))
        assert path == cache / "library.so"
        assert path.read_bytes() == CONTENT
    assert len(builds) == 1
    assert not builds[0].parent.exists()


@pytest.mark.parametrize("file", ["library.so", "library.sha256"])
@pytest.mark.parametrize("damage", list(DAMAGES))
def test_what_is_damaged_is_built_again(damage: str, file: str, cache: Path) -> None:
    builds: list[Path] = []
    path = kept_or_built("library.so", built_as(CONTENT, builds))
    (cache / file).write_bytes(DAMAGES[damage]((cache / file).read_bytes()))
    assert kept_or_built("library.so", built_as(CONTENT, builds)) == path
    assert path.read_bytes() == CONTENT
    assert len(builds) == 2


@pytest.mark.parametrize("file", ["library.so", "library.sha256"])
def test_what_is_missing_is_built_again(file: str, cache: Path) -> None:
    builds: list[Path] = []
    kept_or_built("library.so", built_as(CONTENT, builds))
    (cache / file).unlink()
    assert kept_or_built("library.so", built_as(CONTENT, builds)).read_bytes() == CONTENT
    assert len(builds) == 2


def test_a_build_that_fails_leaves_nothing(cache: Path) -> None:
    def fail(output: Path) -> None:
        output.write_bytes(CONTENT)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        kept_or_built("library.so", fail)
    assert {path.name for path in cache.iterdir()} <= {".lock"}


def started(seconds: float) -> subprocess.Popen[str]:
    """A process that builds, and has begun to."""
    command = [sys.executable, "-c", SLOW_BUILD, str(seconds), kernel_cache.__file__]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "building\n"
    return process


def test_what_a_killed_build_left_is_removed_by_the_next(cache: Path) -> None:
    with started(60) as process:
        process.send_signal(signal.SIGKILL)
    assert list(cache.glob(".build-*"))
    assert kept_or_built("library.so", built_as(CONTENT, [])).read_bytes() == CONTENT
    assert {path.name for path in cache.iterdir()} == {"library.so", "library.sha256", ".lock"}


def test_a_build_under_way_is_waited_for(cache: Path) -> None:
    builds: list[Path] = []
    with started(0.5) as process, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(kept_or_built, "library.so", built_as(CONTENT, builds))
        time.sleep(0.1)
        assert list(cache.glob(".build-*/library.so"))
        assert waiting.result().read_bytes() == b"built by another process"
        assert process.wait() == 0
    assert builds == []


def test_a_process_that_never_ends_its_build_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_cache, "_PATIENCE", 0.1)
    with started(60) as process:
        with pytest.raises(OSError, match="lock"):
            kept_or_built("library.so", built_as(CONTENT, []))
        process.kill()
