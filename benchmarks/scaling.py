"""How the cost of a call grows with time steps, tokens, width and depth: fitted exponents.

    python benchmarks/scaling.py

A Llama with random weights, which serve for speed only, is varied along one axis at a time; the exponent is the slope
of log time over log size, by least squares. Both executions beside the ANN, medians of calls taken in turn.
"""

import argparse
import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from timing import in_turn, machine, print_header, print_row
from transformers import LlamaConfig, LlamaForCausalLM

import las_sj

BASE = {"time steps": 8, "tokens": 128, "width": 256, "depth": 2}
AXES = {
    "time steps": (2, 4, 8, 16, 24),
    "tokens": (32, 64, 128, 256, 512),
    "width": (128, 256, 512, 768),
    "depth": (1, 2, 4, 8),
}
VOCABULARY = 512
EXECUTIONS = ("ANN", "accumulated", "temporal")


def calls_of(sizes: dict[str, int], device: str) -> dict[str, Callable[[], object]]:
    """A call of a model of these sizes in each execution."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=sizes["width"],
        intermediate_size=3 * sizes["width"],
        num_hidden_layers=sizes["depth"],
        num_attention_heads=sizes["width"] // 32,
    )
    ann: Any = LlamaForCausalLM(config).eval().to(device)
    ids = torch.randint(VOCABULARY, (1, sizes["tokens"]), device=device)
    las_config = las_sj.LASConfig(time_steps=sizes["time steps"])
    snn: Any = las_sj.convert(copy.deepcopy(ann), las_config, [{"input_ids": ids[:, :64]}])

    def run(execution: str) -> object:
        las_sj.set_execution(snn, execution)
        return snn(ids)

    return {"ANN": lambda: ann(ids), "accumulated": lambda: run("accumulated"), "temporal": lambda: run("temporal")}


def exponent(sizes: tuple[int, ...], seconds: list[float]) -> float:
    """The slope of log seconds over log sizes."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    others = ", ".join(f"{name} {size}" for name, size in BASE.items())
    print(f"{machine(arguments.device)}; where not varied: {others}\n")
    exponents = []
    print_header(["axis", "size", *(f"{execution}, ms" for execution in EXECUTIONS)])
    for axis, sizes in AXES.items():
        seconds: dict[str, list[float]] = {execution: [] for execution in EXECUTIONS}
        for size in sizes:
            times = in_turn(calls_of(BASE | {axis: size}, arguments.device), arguments.rounds)
            for execution in EXECUTIONS:
                seconds[execution].append(times[execution].median)
            print_row([axis, size, *(f"{1e3 * times[execution].median:.1f}" for execution in EXECUTIONS)])
        exponents.append([axis, *(f"{exponent(sizes, seconds[execution]):.2f}" for execution in EXECUTIONS)])
    print()
    print_header(["time grows as size to the power of", *EXECUTIONS])
    for row in exponents:
        print_row(list(row))


if __name__ == "__main__":
    main()
