"""A classifier by number of time steps and rounding: Table 6 of the LAS paper.

    PYTHONPATH=benchmarks python benchmarks/tables/time_steps.py sst2 …

Folders are what `python -m las_sj.finetune` wrote. Calibrated on 256 training rows, whole development split,
accumulated execution. Prints a Markdown table, and how many steps each rounding needs to lose no more than 0.3 points.
"""

import argparse
from pathlib import Path

from support import GLUE, Classifier, print_origin
from timing import print_header, print_row
from tqdm import tqdm

LOSSLESS = 0.3  # points
ROUNDINGS = ("nearest", "floor")
PAPER = {16: 92.55, 13: 92.55, 11: 79.36, 10: 49.08}  # BERT-base, SST-2 (arXiv 2505.09659, Table 6)


def fewest_steps(losses: dict[int, float]) -> int | None:
    """The fewest steps from which on no more than `LOSSLESS` points are lost."""
    fewest = None
    for steps in sorted(losses, reverse=True):
        if abs(losses[steps]) > LOSSLESS:
            break
        fewest = steps
    return fewest


def sweep(folder: Path, data: Path, limit: int | None, time_steps: list[int], levels: int) -> None:
    """Print the rows of one classifier."""
    classifier = Classifier.load(folder, data, limit)
    losses: dict[str, dict[int, float]] = {rounding: {} for rounding in ROUNDINGS}
    for steps in sorted(time_steps, reverse=True):
        cells = []
        for rounding in tqdm(ROUNDINGS, desc=f"{folder.name}, T = {steps}", leave=False):
            result = classifier.evaluate(classifier.pair(time_steps=steps, rounding=rounding, levels=levels))
            m = result.measures[0]
            losses[rounding][steps] = 100 * m.difference
            same = "" if result.agreement is None else f"{100 * result.agreement:.2f} %"
            cells += [f"{100 * m.snn:.2f}", f"{100 * m.difference:+.2f}", same, f"{result.spikes_per_neuron:.3f}"]
        paper = f"{PAPER[steps]:.2f}" if classifier.task.name == "SST-2" and steps in PAPER else ""
        print_row([classifier.task.name, m.metric, steps, f"{100 * m.ann:.2f}", *cells, paper])
    needed = {rounding: fewest_steps(losses[rounding]) for rounding in ROUNDINGS}
    tqdm.write(f"{classifier.task.name}: lossless from T = {needed['nearest']} nearest, {needed['floor']} floor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classifiers", nargs="+", type=Path, help="folders that las_sj.finetune wrote")
    parser.add_argument("--data", type=Path, default=GLUE)
    parser.add_argument("--time-steps", type=int, nargs="+", default=list(range(6, 17)))
    parser.add_argument("--levels", type=int, default=15)
    parser.add_argument("--limit", type=int, help="rows of the development split (all)")
    arguments = parser.parse_args()
    print_origin(f"{arguments.levels} levels")
    sides = [f"{rounding}{name}" for rounding in ROUNDINGS for name in ("", ", points", ", same", ", spikes")]
    print_header(["task", "metric", "T", "ANN", *sides, "paper, floor"])
    for folder in arguments.classifiers:
        sweep(folder, arguments.data, arguments.limit, arguments.time_steps, arguments.levels)


if __name__ == "__main__":
    main()
