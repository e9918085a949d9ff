"""What benchmarks share: durations taken in turn, the machine, and memory at its peak."""

import ctypes
import gc
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

MIB = 2**20


@dataclass(frozen=True)
class Durations:
    """Seconds of several calls of one thing."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Slowest minus fastest."""
        return max(self.seconds) - min(self.seconds)


@torch.no_grad()
def in_turn(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Durations]:
    """Durations of each call, one of each in every round, after a round that warms up."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(rounds + 1):
        for name, call in calls.items():
            start = now()
            call()
            if round_number:
                taken[name].append(now() - start)
    return {name: Durations(tuple(values)) for name, values in taken.items()}


def now() -> float:
    """Seconds, when all that was asked of a GPU is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def milliseconds(seconds: float) -> str:
    """To three digits."""
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def machine(device: str = "cpu") -> str:
    """One line for the head of a table; its load average says whether others were at work, which distorts ratios."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    threads = f"{torch.get_num_threads()} threads on {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}"
    name = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else device
    return f"{platform.system()} {platform.machine()}, {model}, {threads}, torch {torch.__version__}, on {name}"


def resident(entry: str) -> float:
    """Memory of this process now (VmRSS) or at its peak (VmHWM), MiB (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(entry)).split()[1]) / 1024


def peak_of(prepare: Callable[..., Callable[[], object]], *arguments: object) -> tuple[float, float]:
    """Memory in MiB before a call and at its peak, in a process of its own: of the process, or of a GPU if it uses one.

    Args:
        prepare: makes the call; a function of a module, with arguments that can be sent to another process.
        arguments: its arguments.

    Raises:
        BrokenProcessPool: the process was killed, as where memory is short.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure_peak, prepare, arguments).result()


@torch.no_grad()
def _measure_peak(prepare: Callable[..., Callable[[], object]], arguments: tuple[object, ...]) -> tuple[float, float]:
    call = prepare(*arguments)
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() / MIB
        call()
        return before, torch.cuda.max_memory_allocated() / MIB
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)  # else what the preparation has freed would hide what the call takes
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the preparation
    before = resident("VmRSS")
    call()
    return before, resident("VmHWM")


def print_row(cells: list[object]) -> None:
    """A row of a Markdown table; see also `print_header`."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def print_header(cells: list[str]) -> None:
    """The head of a Markdown table."""
    print_row(list(cells))
    print("|" + " --- |" * len(cells), flush=True)
