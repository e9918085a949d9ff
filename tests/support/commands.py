"""What tests of the commands share: running one in this process, interrupting one in its own, and what it said."""

import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from programs import ENVIRONMENT, started
from transformers.utils import logging as transformers_logging

from las_sj.commands.command_line import run as run_command


class Finished(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def visible(self) -> list[str]:
        """Lines of stderr as a terminal shows them: what a progress bar wrote and took back is gone."""
        return [line for line in (part.rsplit("\r", 1)[-1].strip() for part in self.err.split("\n")) if line]


Call = Callable[..., Finished]
Run = Callable[..., Finished]  # of the command whose `main` comes first


@contextmanager
def in_this_process(main: Callable[[list[str]], None], capfd: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """A command in this process: importing all for each case would take minutes."""
    verbosity = transformers_logging.get_verbosity()

    def call_here(*arguments: object) -> Finished:
        capfd.readouterr()  # what was written before
        code = 0
        try:
            run_command(lambda: main([str(argument) for argument in arguments]))
        except SystemExit as end:
            code = int(end.code or 0)
        return Finished(code, *capfd.readouterr())

    yield call_here
    transformers_logging.set_verbosity(verbosity)
    transformers_logging.enable_progress_bar()


@contextmanager
def one_thread() -> Iterator[None]:
    """Within this context sums are those of a command in a process of its own, which has `ENVIRONMENT`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def contents(folder: Path) -> set[str]:
    """Everything below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def assert_one_line(finished: Finished, message: str, code: int = 1) -> None:
    """The command failed, with one line that matches."""
    assert finished.code == code, finished.err
    assert finished.out == ""
    assert "Traceback" not in finished.err
    assert len(finished.visible) == 1, finished.err
    assert re.match(f"error: .*({message})", finished.visible[0], re.IGNORECASE), finished.visible[0]
    assert finished.err.endswith("\n")


def interrupted(
    *program: object,
    shown: bytes,
    number: int = signal.SIGINT,
    folder: Path | None = None,
    environment: Mapping[str, str] = ENVIRONMENT,
    anew: bool = False,
) -> str:
    """The last line of a command that gets a signal once a pattern is shown on stderr, and ends as interrupted.

    Args:
        program, folder, environment, anew: as in `programs.started`.
        shown: the pattern.
        number: of the signal.
    """
    with started(*program, folder=folder, environment=environment, anew=anew) as running:
        while not re.search(shown, running.err.read_bytes()):
            assert not running.ended, running.err.read_text()
            time.sleep(0.005)
        running.send(number)
        assert running.wait() == 130
        seen = running.err.read_text()
    assert "Traceback" not in seen
    return seen.strip().rsplit("\n", 1)[-1]


def assert_interruptible(
    *program: object,
    shown: bytes,
    folder: Path,
    environment: Mapping[str, str] = ENVIRONMENT,
    anew: bool = False,
) -> None:
    """Ctrl-C once the command has shown a pattern on stderr ends it in one line, and leaves `folder` empty."""
    last = interrupted(*program, shown=shown, folder=folder, environment=environment, anew=anew)
    assert last.endswith("interrupted: nothing was written")
    assert contents(folder) == set()
