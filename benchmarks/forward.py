"""Time and memory of the ANN, and of accumulated and temporal execution, as ratios from one run.

    python benchmarks/forward.py [--cases minilm:8x64,minilm:8x128,smollm2:4x256,smollm2:1x512]

Medians of calls taken in turn, as a plain program makes them, on real text. Memory is the peak of a
fresh process that runs only that. --llama-1b adds a Llama of one billion weights, drawn at random, which serve for
speed only.
"""

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from random_llamas import SIZES
from real_models import DATA, minilm, sentences, smollm2
from timing import Durations, in_turn, machine, milliseconds, peak_of, print_header, print_row
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

import las_sj

CASES = "minilm:8x64,minilm:8x128,smollm2:4x256,smollm2:1x512"
EXECUTIONS = ("ANN", "accumulated", "temporal")
CALIBRATION = 256  # tokens


def ann_and_tokens(name: str, rows: int, length: int, data: Path) -> tuple[Any, Tensor]:
    """A model, and token ids [rows, length] for it."""
    if name == "llama-1b":
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**SIZES["1B"])).eval()
        return model, torch.randint(SIZES["1B"]["vocab_size"], (rows, length))
    model, tokenizer = minilm() if name == "minilm" else smollm2()
    ids = tokenizer(" ".join(sentences(data)), return_tensors="pt", verbose=False)["input_ids"][0]
    return model, ids[: rows * length].view(rows, length)


def calls_of(
    case: str, executions: tuple[str, ...], time_steps: int, device: str, dtype: str, data: Path
) -> dict[str, Callable[[], object]]:
    """A call for each execution of one case, such as "minilm:8x64"."""
    name, _, size = case.partition(":")
    rows, length = (int(number) for number in size.split("x"))
    ann, ids = ann_and_tokens(name, rows, length, data)
    ann, ids = ann.to(device, getattr(torch, dtype)), ids.to(device)
    calls: dict[str, Callable[[], object]] = {}
    if "ANN" in executions:
        calls["ANN"] = lambda: ann(ids)
    if set(executions) - {"ANN"}:
        calibration = [{"input_ids": ids.flatten()[:CALIBRATION].view(-1, min(length, CALIBRATION))}]
        source = copy.deepcopy(ann) if "ANN" in executions else ann
        snn = las_sj.convert(source, las_sj.LASConfig(time_steps=time_steps), calibration)
        for execution in executions:
            if execution != "ANN":
                calls[execution] = lambda execution=execution: _run(snn, execution, ids)  # type: ignore[misc]
    return calls


def _run(snn: Any, execution: str, ids: Tensor) -> object:
    las_sj.set_execution(snn, execution)
    return snn(ids)


def only_call(case: str, execution: str, time_steps: int, device: str, dtype: str, data: Path) -> Callable[[], object]:
    """For a process of its own."""
    return calls_of(case, (execution,), time_steps, device, dtype, data)[execution]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--cases", default=CASES, help="MODEL:ROWSxLENGTH, … (%(default)s)")
    parser.add_argument("--llama-1b", metavar="ROWSxLENGTH", help="a random Llama of this size of batch too")
    parser.add_argument("--executions", nargs="+", default=EXECUTIONS, choices=EXECUTIONS)
    parser.add_argument("--time-steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--slow-rounds", type=int, default=2, help="for models other than MiniLM (2)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16", "float64"))
    parser.add_argument("--no-memory", action="store_true", help="measure time only")
    arguments = parser.parse_args()
    executions = ("ANN", *(name for name in arguments.executions if name != "ANN"))
    cases = [case for case in arguments.cases.split(",") if case]
    cases += [f"llama-1b:{arguments.llama_1b}"] if arguments.llama_1b else []
    print(f"{machine(arguments.device)}, {arguments.dtype}, T = {arguments.time_steps}\n")
    columns = ["model", "execution", "median ms", "spread ms", "× ANN", "× T × ANN"]
    print_header(columns if arguments.no_memory else [*columns, "peak MiB", "of which the call", "× ANN's peak"])
    for case in cases:
        settings = (arguments.time_steps, arguments.device, arguments.dtype, arguments.data)
        rounds = arguments.rounds if case.startswith("minilm") else arguments.slow_rounds
        times = in_turn(calls_of(case, executions, *settings), rounds)
        reference = 0.0
        for execution in executions:
            row = _times_of(case, execution, times[execution], times["ANN"].median, arguments.time_steps)
            if not arguments.no_memory:
                before, peak = peak_of(only_call, case, execution, *settings)
                reference = reference or peak
                row += [f"{peak:.0f}", f"{peak - before:.0f}", f"{peak / reference:.2f}"]
            print_row(row)


def _times_of(case: str, execution: str, times: Durations, ann: float, time_steps: int) -> list[object]:
    ratio = times.median / ann
    in_time = f"{ratio / time_steps:.2f}" if execution == "temporal" else ""
    return [case, execution, milliseconds(times.median), milliseconds(times.spread), f"{ratio:.2f}", in_time]


if __name__ == "__main__":
    main()
