"""How much calls slow down beside busy processes: of the ANN, and in accumulated and temporal execution.

    python benchmarks/busy.py [--case minilm:8x64] [--busy 2] [--runs 5]

Each model runs in a process of its own, with as many threads as torch takes by itself. In every run each makes its
calls first alone, then beside `--busy` processes that do nothing but count. The last column is a model's slow-down over
the ANN's in the same run, the worst run last.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
from forward import EXECUTIONS, only_call
from real_models import DATA
from timing import machine, milliseconds, print_header, print_row

_SPAWN = multiprocessing.get_context("spawn")
_calls: list[Callable[[], object]] = []  # of a worker process


class Worker:
    """A process that holds one model, idle between its calls."""

    def __init__(self, case: str, execution: str, time_steps: int, data: Path) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=_SPAWN)
        self._pool.submit(_prepare, case, execution, time_steps, data).result()

    def seconds(self, calls: int) -> float:
        """The median time of some calls."""
        return self._pool.submit(_time, calls).result()


@torch.no_grad()
def _prepare(case: str, execution: str, time_steps: int, data: Path) -> None:
    _calls.append(only_call(case, execution, time_steps, "cpu", "float32", data))
    _calls[0]()


@torch.no_grad()
def _time(calls: int) -> float:
    taken = []
    for _ in range(calls):
        start = time.perf_counter()
        _calls[0]()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _count() -> None:
    while True:
        pass


@contextmanager
def beside(count: int) -> Iterator[None]:
    """Within this context so many processes keep processors busy."""
    processes = [_SPAWN.Process(target=_count, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    time.sleep(3)  # they have to import what this file does
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--case", default="minilm:8x64", help="MODEL:ROWSxLENGTH, as in forward.py (%(default)s)")
    parser.add_argument("--busy", type=int, default=2, help="processes (%(default)s)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--calls", type=int, default=9, help="of the ANN and accumulated; a third of it temporal")
    parser.add_argument("--time-steps", type=int, default=16)
    arguments = parser.parse_args()
    workers = {name: Worker(arguments.case, name, arguments.time_steps, arguments.data) for name in EXECUTIONS}
    calls = {name: arguments.calls if name != "temporal" else max(1, arguments.calls // 3) for name in EXECUTIONS}
    print(f"{machine()}, {arguments.case}, {arguments.busy} busy processes\n")
    slow_downs: dict[str, list[float]] = {name: [] for name in EXECUTIONS}
    print_header(["run", "execution", "quiet ms", "busy ms", "slow-down", "over the ANN's"])
    for run in range(arguments.runs):
        quiet = {name: worker.seconds(calls[name]) for name, worker in workers.items()}
        with beside(arguments.busy):
            busy = {name: worker.seconds(calls[name]) for name, worker in workers.items()}
        for name in EXECUTIONS:
            slow_downs[name].append(busy[name] / quiet[name])
            over = slow_downs[name][-1] / slow_downs["ANN"][-1]
            times = (milliseconds(seconds[name]) for seconds in (quiet, busy))
            print_row([run + 1, name, *times, f"{slow_downs[name][-1]:.2f}", f"{over:.2f}"])
    for name in EXECUTIONS[1:]:
        over_all = [mine / ann for mine, ann in zip(slow_downs[name], slow_downs["ANN"], strict=True)]
        print_row(["worst", name, "", "", "", f"{max(over_all):.2f}"])


if __name__ == "__main__":
    main()
