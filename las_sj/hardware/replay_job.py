"""One piece of a replay: written to a folder, run in a process of its own, read back."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from las_sj.hardware.connection import Connection

_PROGRAM = Path(__file__).with_name("replay_process.py")


class ReplayError(RuntimeError):
    """SANA-FE could not replay spikes; the message says why."""


@dataclass(frozen=True, eq=False)
class PieceResult:
    """What SANA-FE counted.

    Attributes:
        messages: of each connection: messages, hops and synaptic events, [N, 3].
        seconds: of each step, [steps].
        energies: of synapses, dendrites, somas and network, in J, [4].
    """

    messages: NDArray[np.int64]
    seconds: NDArray[np.float64]
    energies: NDArray[np.float64]


def run_piece(connections: Sequence[Connection], architecture: str, timing: str, steps: int) -> PieceResult:
    """Replay connections in step on one chip, in a fresh process.

    Args:
        connections: what runs.
        architecture: the description of the chip.
        timing: SANA-FE's name of its model of time.
        steps: how many steps run; trains that are shorter end in silence.

    Raises:
        ReplayError: the process failed or was killed.
    """
    with TemporaryDirectory(prefix="las_sj_replay_") as name:
        folder = Path(name)
        _write(folder, connections, architecture, timing, steps)
        _wait(folder)
        return _result(folder)


def _write(folder: Path, connections: Sequence[Connection], architecture: str, timing: str, steps: int) -> None:
    trains: dict[str, Any] = {}
    for index, connection in enumerate(connections):
        trains[f"fired_{index}"] = np.packbits(connection.fired, axis=0)
        trains[f"source_cores_{index}"] = connection.source_cores
        trains[f"target_cores_{index}"] = connection.target_cores
    np.savez(folder / "trains.npz", **trains)
    job = {"timing": timing, "last": steps, "steps": [connection.steps for connection in connections]}
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    (folder / "architecture.yaml").write_text(architecture, encoding="utf-8")


def _wait(folder: Path) -> None:
    """Run the process to its end; whatever interrupts the wait kills it."""
    # A fixed seed of hashes and one thread: nothing that differs from run to run moves what "detailed" orders by.
    environment = {**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", str(_PROGRAM), str(folder), str(os.getpid())]
    with (folder / "errors.txt").open("wb") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, env=environment
        )
        try:
            status = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if status:
        raise ReplayError(_why(status, folder / "errors.txt"))


def _why(status: int, errors: Path) -> str:
    lines = [line.strip() for line in errors.read_text(encoding="utf-8", errors="replace").splitlines()]
    last = next((line for line in reversed(lines) if line), "")
    if status == -9:
        return "SANA-FE was killed, perhaps for want of memory: replay fewer synapses at a time"
    ended = f"was ended by signal {-status}" if status < 0 else "failed"
    return f"SANA-FE {ended}: {last or 'it said nothing'}"


def _result(folder: Path) -> PieceResult:
    with np.load(folder / "result.npz", allow_pickle=False) as found:
        messages, events = found["messages"], int(found["events"])
        if int(messages[:, 2].sum()) != events:
            raise ReplayError(f"SANA-FE counted {events} synaptic events, and its messages {messages[:, 2].sum()}")
        return PieceResult(messages, found["seconds"], found["energies"])
