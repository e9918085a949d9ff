"""A classifier by number of time steps and rounding: Table 6 of the LAS paper.

    PYTHONPATH=benchmarks python benchmarks/tables/time_steps.py sst2 … [--work DIR]

Folders are what `python -m las_sj.finetune` wrote. Calibrated on 256 training rows, whole development split,
accumulated execution. Prints a Markdown table, how many steps each rounding needs to change the metric by no more than
0.3 points (for T and all larger ones), and the mean of the changes over the classifiers. With --work, finished batches
are kept: the same command goes on after an interruption, and takes over what others did with fewer classifiers.
"""

import argparse
from pathlib import Path

from support import GLUE, Classifier, print_origin
from timing import print_header, print_row
from tqdm import tqdm

LOSSLESS = 0.3  # points
ROUNDINGS = ("nearest", "floor")
Changes = dict[str, dict[int, float]]  # points, by rounding and T
PAPER = {16: 92.55, 13: 92.55, 11: 79.36, 10: 49.08}  # BERT-base, SST-2 (arXiv 2505.09659, Table 6)


def fewest_steps(changes: dict[int, float]) -> int | None:
    """The fewest steps from which on the change is at most `LOSSLESS` points."""
    fewest = None
    for steps in sorted(changes, reverse=True):
        if abs(changes[steps]) > LOSSLESS:
            break
        fewest = steps
    return fewest


def lossless(changes: Changes) -> str:
    """How many steps each rounding needs, in words."""
    fewest = {rounding: fewest_steps(changes[rounding]) for rounding in ROUNDINGS}
    return ", ".join(f"T = {steps} {name}" if steps else f"no T with {name}" for name, steps in fewest.items())


def sweep(folder: Path, arguments: argparse.Namespace, time_steps: list[int]) -> Changes:
    """Print the rows of one classifier."""
    classifier = Classifier.load(folder, arguments.data, arguments.limit)
    changes: Changes = {rounding: {} for rounding in ROUNDINGS}
    for steps in time_steps:
        cells = []
        for rounding in tqdm(ROUNDINGS, desc=f"{folder.name}, T = {steps}", leave=False):
            pair = classifier.pair(time_steps=steps, rounding=rounding, levels=arguments.levels)
            setting = f"{folder.name}-T{steps}-{rounding}"
            result = classifier.evaluate(pair, arguments.work and arguments.work / setting)
            m = result.measures[0]
            changes[rounding][steps] = 100 * m.difference
            same = "" if result.agreement is None else f"{100 * result.agreement:.2f} %"
            cells += [f"{100 * m.snn:.2f}", f"{100 * m.difference:+.2f}", same, f"{result.spikes_per_neuron:.3f}"]
        paper = f"{PAPER[steps]:.2f}" if classifier.task.name == "SST-2" and steps in PAPER else ""
        print_row([classifier.task.name, m.metric, steps, f"{100 * m.ann:.2f}", *cells, paper])
    return changes


def print_means(found: dict[str, Changes], time_steps: list[int]) -> None:
    """Print what all classifiers have in common."""
    for name, changes in found.items():
        print(f"- {name}: lossless from {lossless(changes)}")
    means: Changes = {
        rounding: {
            steps: sum(abs(changes[rounding][steps]) for changes in found.values()) / len(found) for steps in time_steps
        }
        for rounding in ROUNDINGS
    }
    print(f"- their mean: lossless from {lossless(means)}\n")
    print_header(["mean of the sizes of the changes, points", *(f"T = {steps}" for steps in time_steps)])
    for rounding in ROUNDINGS:
        print_row([rounding, *(f"{means[rounding][steps]:.2f}" for steps in time_steps)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classifiers", nargs="+", type=Path, help="folders that las_sj.finetune wrote")
    parser.add_argument("--data", type=Path, default=GLUE)
    parser.add_argument("--time-steps", type=int, nargs="+", default=list(range(6, 17)))
    parser.add_argument("--levels", type=int, default=15)
    parser.add_argument("--limit", type=int, help="rows of the development split (all)")
    parser.add_argument("--work", type=Path, help="folder for finished batches")
    arguments = parser.parse_args()
    print_origin(f"{arguments.levels} levels")
    sides = [f"{rounding}{name}" for rounding in ROUNDINGS for name in ("", ", points", ", same", ", spikes")]
    print_header(["task", "metric", "T", "ANN", *sides, "paper, floor"])
    time_steps = sorted(arguments.time_steps, reverse=True)
    found = {folder.name: sweep(folder, arguments, time_steps) for folder in arguments.classifiers}
    print()
    print_means(found, time_steps)


if __name__ == "__main__":
    main()
