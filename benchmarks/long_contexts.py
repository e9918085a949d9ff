"""Time and memory by the number of tokens: accumulated execution against the ANN, and how both grow.

    python benchmarks/long_contexts.py [--lengths 512,2048,8192] [--models smollm2,mistral] [--rounds 1]

One sequence without padding; calls return the logits of all tokens and keep keys and values, as `model(ids)` does, and
the ANN runs with its own attention (sdpa). SmolLM2 has its real weights. The Mistral, of the same size, has random ones
and a sliding window of 1,024 tokens. Calls are timed in turn, in one process for each model and length; memory is the
peak of a process that makes one call. The exponent is the slope of log(time) over log(tokens). All of it takes some
8 minutes on two cores: --lengths and --models split it.
"""

import argparse
import copy
import math
import statistics
from collections.abc import Callable
from typing import Any

import torch
from real_models import sentences, smollm2
from timing import in_turn, machine, peak_of, print_header, print_row
from torch import Tensor
from transformers import MistralConfig, MistralForCausalLM

import las_sj

EXECUTIONS = ("ANN", "accumulated")
LENGTHS = "512,1024,2048,4096,8192"
CALIBRATION = 256  # tokens
MISTRAL: dict[str, Any] = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "sliding_window": 1024,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}


def ann_and_tokens(name: str, length: int) -> tuple[Any, Tensor]:
    """A model, and token ids [1, length] for it."""
    if name == "mistral":
        torch.manual_seed(0)
        model = MistralForCausalLM(MistralConfig(**MISTRAL)).eval()
        return model, torch.randint(MISTRAL["vocab_size"], (1, length))
    model, tokenizer = smollm2()
    ids = tokenizer(" ".join(sentences()), return_tensors="pt", verbose=False)["input_ids"]
    return model, ids[:, :length]


def calls_of(name: str, length: int, executions: tuple[str, ...]) -> dict[str, Callable[[], object]]:
    """A call for each execution of one model at one length."""
    ann, ids = ann_and_tokens(name, length)
    calls: dict[str, Callable[[], object]] = {}
    if "ANN" in executions:
        calls["ANN"] = lambda: ann(ids)
    if "accumulated" in executions:
        source = copy.deepcopy(ann) if "ANN" in executions else ann
        snn = las_sj.convert(source, las_sj.LASConfig(), [{"input_ids": ids[:, :CALIBRATION]}])
        las_sj.set_execution(snn, "accumulated")
        calls["accumulated"] = lambda: snn(ids)
    return calls


def only_call(name: str, length: int, execution: str) -> Callable[[], object]:
    """For a process of its own."""
    return calls_of(name, length, (execution,))[execution]


def exponent(lengths: list[int], seconds: list[float]) -> float:
    """The slope of log(seconds) over log(lengths), fitted by least squares."""
    return statistics.linear_regression([math.log(x) for x in lengths], [math.log(y) for y in seconds]).slope


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="smollm2,mistral", help="of smollm2 and mistral (%(default)s)")
    parser.add_argument("--lengths", default=LENGTHS, help="numbers of tokens (%(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="of calls that are timed, after one that warms up (1)")
    parser.add_argument("--no-memory", action="store_true", help="measure time only")
    arguments = parser.parse_args()
    lengths = [int(length) for length in arguments.lengths.split(",")]
    print(f"{machine()}\n")
    print_header(["model", "tokens", "ANN s", "accumulated s", "× ANN", "ANN's peak MiB", "peak MiB", "× ANN's peak"])
    slopes = []
    for name in arguments.models.split(","):
        medians: dict[str, list[float]] = {execution: [] for execution in EXECUTIONS}
        for length in lengths:
            times = in_turn(calls_of(name, length, EXECUTIONS), arguments.rounds)
            for execution in EXECUTIONS:
                medians[execution].append(times[execution].median)
            _print_times(name, length, [medians[execution][-1] for execution in EXECUTIONS], arguments.no_memory)
        if len(lengths) > 1:
            slopes.append(f"{name}: " + ", ".join(f"{key} {exponent(lengths, y):.2f}" for key, y in medians.items()))
    print("\nexponents of time in tokens: " + "; ".join(slopes) if slopes else "")


def _print_times(name: str, length: int, seconds: list[float], no_memory: bool) -> None:
    ann, accumulated = seconds
    row = [name, f"{length:,}", f"{ann:.2f}", f"{accumulated:.2f}", f"{accumulated / ann:.2f}"]
    if not no_memory:
        ann_peak, peak = (peak_of(only_call, name, length, execution)[1] for execution in EXECUTIONS)
        row += [f"{ann_peak:,.0f}", f"{peak:,.0f}", f"{peak / ann_peak:.2f}"]
    print_row([*row, *[""] * (8 - len(row))])


if __name__ == "__main__":
    main()
