"""Python programs in processes of their own: forks of one that has imported the package, which takes many seconds.

A program is given as an interpreter's arguments are: `-m MODULE …`, `-c CODE …` or `FILE …`, after `-W ACTION`. What a
fork writes, its exit code and the signals that end it are those of an interpreter; only its imports are there already.
"""

import multiprocessing
import os
import runpy
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from subprocess import CompletedProcess, Popen

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
PATIENCE = 600  # seconds for what never takes as long
IMPORTED = [f"las_sj.commands.{name}" for name in ("convert", "evaluate", "fas", "finetune", "inspect", "report")]


class Program:
    """A program that runs.

    Attributes:
        process: its process.
        out, err: files that grow with what it writes.
    """

    def __init__(self, process: "ForkServerProcess | Popen[bytes]", folder: Path) -> None:
        self.process = process
        self.out, self.err = folder / "out", folder / "err"

    @property
    def ended(self) -> bool:
        process = self.process
        return (process.poll() if isinstance(process, Popen) else process.exitcode) is not None

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def wait(self) -> int:
        """Its exit code, once it has ended; minus the signal that ended it."""
        if isinstance(self.process, Popen):
            return self.process.wait(PATIENCE)
        self.process.join(PATIENCE)
        if self.process.exitcode is None:
            raise TimeoutError(f"a program has not ended within {PATIENCE} s")
        return self.process.exitcode


@contextmanager
def started(
    *program: object, folder: Path | None = None, environment: Mapping[str, str] = ENVIRONMENT, anew: bool = False
) -> Iterator[Program]:
    """Start a program, and wait for its end.

    Args:
        program: as an interpreter's arguments.
        folder: where it runs; this process's own if None.
        environment: of the program.
        anew: whether an interpreter is started, which imports everything itself.
    """
    arguments, folder = [str(part) for part in program], folder or Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        out, err = Path(name) / "out", Path(name) / "err"
        out.touch()
        err.touch()
        process = (_interpreter if anew else _fork)(arguments, folder, dict(environment), out, err)
        running = Program(process, Path(name))
        try:
            yield running
            running.wait()
        except BaseException:
            process.kill()
            running.wait()
            raise


def run(
    *program: object, folder: Path | None = None, environment: Mapping[str, str] = ENVIRONMENT, anew: bool = False
) -> CompletedProcess[str]:
    """Run a program to its end; arguments as in `started`."""
    with started(*program, folder=folder, environment=environment, anew=anew) as running:
        code = running.wait()
        return CompletedProcess(program, code, *(path.read_bytes().decode() for path in (running.out, running.err)))


def _interpreter(arguments: list[str], folder: Path, environment: dict[str, str], out: Path, err: Path) -> Popen[bytes]:
    with out.open("ab") as stdout, err.open("ab") as stderr:
        return Popen([sys.executable, *arguments], cwd=folder, env=environment, stdout=stdout, stderr=stderr)


def _fork(arguments: list[str], folder: Path, environment: dict[str, str], out: Path, err: Path) -> ForkServerProcess:
    process = _server().Process(target=_become, args=(arguments, folder, environment, out, err))
    process.start()
    return process


@cache
def _server() -> ForkServerContext:
    """What forks; a process that has imported the package, and run nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    before = {**os.environ}
    os.environ.update(ENVIRONMENT)
    try:
        ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context


def _become(program: Sequence[str], folder: Path, environment: dict[str, str], out: Path, err: Path) -> None:
    """In a fork: do what an interpreter does with its arguments."""
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # which the environment names
    os.chdir(folder)
    if program[0] == "-W":
        warnings.simplefilter(program[1])
        program = program[2:]
    kind, *rest = program
    if kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        sys.argv = ["-m", *rest[1:]]
        sys.path.insert(0, str(folder))
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [*program]
        sys.path.insert(0, str(Path(kind).parent))
        runpy.run_path(kind, run_name="__main__")
