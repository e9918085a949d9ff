"""all-MiniLM-L6-v2 and SmolLM2-135M converted by their families' layers and by operations alone: error and time.

    python benchmarks/by_operations.py [--models minilm smollm2] [--rounds 5]

Both networks have T = 16 and the same calibration, and are called in turn. An error is that of the first output against
the ANN's; a time is the median of the rounds, ± half of what lies between the slowest and the fastest.
"""

import argparse
import copy
import time
from collections.abc import Callable

import torch
from real_models import minilm, padded_batches, sentences, smollm2
from timing import in_turn, machine, milliseconds, print_header, print_row
from torch import Tensor
from transformers import PreTrainedModel

import las_sj
from las_sj.data.batches import Batch

WAYS = {"layers of the family": False, "operations": True}
MODELS = {"minilm": minilm, "smollm2": smollm2}
EXECUTIONS = ("accumulated", "temporal")


def converted(ann: PreTrainedModel, by_operations: bool, batches: list[Batch]) -> tuple[PreTrainedModel, float]:
    """The network, and how long its conversion took, s."""
    start = time.perf_counter()
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(by_operations=by_operations), batches)
    return snn, time.perf_counter() - start


def relative_error(output: Tensor, expected: Tensor, mask: Tensor) -> float:
    """Padding excluded."""
    output, expected = output[mask.bool()], expected[mask.bool()]
    return float((output - expected).norm() / expected.norm())


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=8, help="sentences in a batch (%(default)s)")
    parser.add_argument("--executions", nargs="+", default=EXECUTIONS, choices=EXECUTIONS)
    parser.add_argument("--calibration", type=int, default=4, help="batches (%(default)s)")
    arguments = parser.parse_args()
    rows, executions = arguments.rows, arguments.executions
    print(f"{machine('cpu')}\n")
    columns = [f"{name}: {what}" for name in executions for what in ("error", "ms", "least ms")]
    print_header(["model", "by", "conversion s", *columns])
    for model in arguments.models:
        ann, tokenizer = MODELS[model]()
        batch, *calibration = padded_batches(tokenizer, sentences()[: rows * (1 + arguments.calibration)], rows)
        expected = ann(**batch)[0]
        networks = {way: converted(ann, by, calibration) for way, by in WAYS.items()}
        rows_of: dict[str, list[object]] = {way: [model, way, f"{networks[way][1]:.1f}"] for way in WAYS}
        for execution in executions:
            for snn, _ in networks.values():
                las_sj.set_execution(snn, execution)
            calls = {way: _call(snn, batch) for way, (snn, _) in networks.items()}
            for way, taken in in_turn(calls, arguments.rounds).items():
                error = relative_error(networks[way][0](**batch)[0], expected, batch["attention_mask"])
                spread = f"{milliseconds(taken.median)} ± {milliseconds(taken.spread / 2)}"
                rows_of[way] += [f"{error:.2e}", spread, milliseconds(min(taken.seconds))]
        for row in rows_of.values():
            print_row(row)


def _call(snn: PreTrainedModel, batch: Batch) -> Callable[[], object]:
    return lambda: snn(**batch)


if __name__ == "__main__":
    main()
