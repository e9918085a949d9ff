"""Time and memory of all-MiniLM-L6-v2 as ANN, accumulated and temporal, as ratios from one run.

    python benchmarks/cost.py

Medians of interleaved runs on a batch of 8 × 64 tokens, all three with freed memory kept (`las_sj.memory`). Memory
is the peak of a fresh process that runs only that.
"""

import argparse
import copy
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from real_models import DATA, minilm, padded_batches, sentences
from torch import Tensor
from transformers import PreTrainedModel

import las_sj
from las_sj.memory import keep_freed_memory

EXECUTIONS = ("ann", "accumulated", "temporal")


def prepare(data: Path, rows: int, length: int, time_steps: int) -> tuple[PreTrainedModel, PreTrainedModel, Tensor]:
    """The ANN, its conversion, and real token ids [rows, length]."""
    ann, tokenizer = minilm()
    texts = sentences(data)
    ids = tokenizer(" ".join(texts), return_tensors="pt", verbose=False)["input_ids"][0, : rows * length]
    calibration = padded_batches(tokenizer, texts[:128])
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(time_steps=time_steps), calibration)
    return ann, snn, ids.view(rows, length)


@torch.no_grad()
def seconds(call: Callable[[], object]) -> float:
    """Duration of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def call_of(execution: str, ann: PreTrainedModel, snn: PreTrainedModel, ids: Tensor) -> Callable[[], object]:
    """A call of the model in that execution."""
    if execution == "ann":
        return lambda: ann(ids)
    las_sj.set_execution(snn, execution)
    return lambda: snn(ids)


def measure_times(arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Durations of each execution, taken in turn."""
    models = prepare(arguments.data, arguments.rows, arguments.length, arguments.time_steps)
    times: dict[str, list[float]] = {execution: [] for execution in EXECUTIONS}
    for round_number in range(arguments.rounds + 1):
        for execution in EXECUTIONS:
            duration = seconds(call_of(execution, *models))
            if round_number:  # the first round warms up
                times[execution].append(duration)
    return times


def _peak(queue: multiprocessing.Queue, execution: str, arguments: argparse.Namespace) -> None:
    models = prepare(arguments.data, arguments.rows, arguments.length, arguments.time_steps)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the preparation (Linux)
    before = _resident("VmRSS")
    seconds(call_of(execution, *models))
    queue.put((before, _resident("VmHWM")))


def _resident(entry: str) -> float:
    """Resident memory now (VmRSS) or at its peak (VmHWM), MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(entry))
    return int(line.split()[1]) / 1024


def measure_memory(arguments: argparse.Namespace, execution: str) -> tuple[float, float]:
    """Resident memory in MiB before one call and at its peak, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_peak, args=(queue, execution, arguments))
    process.start()
    result = queue.get()
    process.join()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--time-steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    keep_freed_memory()
    times = measure_times(arguments)
    reference = statistics.median(times["ann"])
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("| execution | median ms | spread ms | × ANN | × T × ANN | peak MiB | of which the call |\n|" + " --- |" * 7)
    for execution in EXECUTIONS:
        values = times[execution]
        ratio = statistics.median(values) / reference
        before, peak = measure_memory(arguments, execution)
        print(
            f"| {execution} | {1e3 * statistics.median(values):.0f} | {1e3 * (max(values) - min(values)):.0f} "
            f"| {ratio:.2f} | {ratio / arguments.time_steps:.2f} | {peak:.0f} | {peak - before:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
