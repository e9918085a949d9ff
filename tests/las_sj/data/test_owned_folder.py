"""Temporary folders: each has an owner, and goes with it, or with the next run after it."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import contents
from programs import Program, started

from las_sj.data.owned_folder import LOCK, owned_folder, remove_abandoned

HOLD = """
import sys, time
from pathlib import Path
from las_sj.data.owned_folder import owned_folder
with owned_folder(".out.partial-", Path(sys.argv[1])) as folder:
    (folder / "weights").write_text("half")
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Program]:
    """A process that holds a folder."""
    with started("-c", HOLD, tmp_path) as running:
        while running.out.read_text() != "held\n":
            assert not running.ended, running.err.read_text()
            time.sleep(0.005)
        yield running


def test_goes_with_its_owner(tmp_path: Path, holder: Program) -> None:
    """As long as that lives, nobody else removes it; once it is killed, the next one does."""
    (held,) = tmp_path.iterdir()
    with owned_folder(".out.partial-", tmp_path) as mine:
        assert set(tmp_path.iterdir()) == {held, mine}
    assert contents(held) == {LOCK, "weights"}
    holder.send(signal.SIGKILL)
    assert holder.wait() == -signal.SIGKILL
    with owned_folder(".out.partial-", tmp_path) as mine:
        assert list(tmp_path.iterdir()) == [mine]
    assert contents(tmp_path) == set()


def test_two_at_once(tmp_path: Path) -> None:
    with owned_folder(".out.partial-", tmp_path) as first, owned_folder(".out.partial-", tmp_path) as second:
        assert first != second
        remove_abandoned(".out.partial-", tmp_path)
        assert set(tmp_path.iterdir()) == {first, second}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_goes_after_an_error(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with owned_folder("a-", tmp_path) as folder:
            (folder / "file").write_text("")
            raise error

    with pytest.raises(error):
        fail()
    assert contents(tmp_path) == set()


def test_what_is_of_somebody_else_stays(tmp_path: Path) -> None:
    """Only what holds the lock's file, or nothing at all, was made by `owned_folder`."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / LOCK).write_text("")
    (tmp_path / ".out.partial-linked12").symlink_to(tmp_path / "elsewhere")
    for name in (".out.partial-thesis12", ".out.partial-backup of mine", ".other.partial-12345678"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.tex").write_text("precious")
    (tmp_path / ".out.partial-file1234").write_text("precious")
    (tmp_path / ".out.partial-empty123").mkdir()  # killed before it could take the lock
    before = contents(tmp_path)
    remove_abandoned(".out.partial-", tmp_path)
    assert contents(tmp_path) == before - {".out.partial-empty123"}


def test_what_must_not_go_is_taken_out(tmp_path: Path) -> None:
    (tmp_path / "a-12345678").mkdir()
    for name in ("old", LOCK):
        (tmp_path / "a-12345678" / name).write_text("precious")
    remove_abandoned("a-", tmp_path, lambda folder: (folder / "old").rename(tmp_path / "old"))
    assert contents(tmp_path) == {"old"}


def test_no_such_place(tmp_path: Path) -> None:
    remove_abandoned("a-", tmp_path / "nowhere")
    with pytest.raises(OSError, match="nowhere"), owned_folder("a-", tmp_path / "nowhere"):
        pytest.fail("there is no such place")
