"""Calls per second of one converted model by one thread, and by two at once, each with one torch thread.

    python benchmarks/threads.py [--rounds 5] [--calls 6]

MiniLM, 8 sentences of 64 tokens; ratios round by round, since a machine's speed drifts.
"""

import argparse
import threading
import time

import torch
from real_models import minilm, sentences
from timing import machine, print_header, print_row

import las_sj


def seconds(model: torch.nn.Module, ids: torch.Tensor, threads: int, calls: int) -> float:
    """How long `threads` threads take for `calls` calls each."""

    def work() -> None:
        with torch.no_grad():
            for _ in range(calls):
                model(ids)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=6, help="of each thread in a round (6)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = minilm()
    ids = tokenizer(" ".join(sentences()), return_tensors="pt", verbose=False)["input_ids"][0, :512].view(8, 64)
    snn = las_sj.convert(model, None, [{"input_ids": ids}])
    print(f"{machine()}\n")
    print_header(["execution", "calls/s, one thread", "calls/s, two threads", "ratio", "ratios of the rounds"])
    for execution in ("accumulated", "temporal"):
        las_sj.set_execution(snn, execution)
        seconds(snn, ids, 2, 1)
        calls = arguments.calls if execution == "accumulated" else max(1, arguments.calls // 3)
        rounds = [(seconds(snn, ids, 1, calls), seconds(snn, ids, 2, calls)) for _ in range(arguments.rounds)]
        ratios = sorted(2 * one / two for one, two in rounds)
        one, two = (sorted(times)[len(rounds) // 2] for times in zip(*rounds, strict=True))
        spread = " ".join(f"{ratio:.2f}" for ratio in ratios)
        print_row(
            [execution, f"{calls / one:.2f}", f"{2 * calls / two:.2f}", f"{ratios[len(ratios) // 2]:.2f}", spread]
        )


if __name__ == "__main__":
    main()
