"""GLUE, ANN beside SNN on whole development splits: Table 3 of the LAS paper.

    python -m las_sj.finetune MODEL --task SST-2 --output sst2      # a classifier for each task
    PYTHONPATH=benchmarks python benchmarks/tables/glue.py sst2 mrpc …

Calibrated on 256 training rows, accumulated execution. Prints a Markdown table; metrics are × 100.
"""

import argparse
from pathlib import Path
from statistics import mean

from support import GLUE, Classifier, print_origin
from timing import print_header, print_row

# BERT-base at T = 16, ANN → LAS (arXiv 2505.09659, Table 3); the first number of two is the metric named first here.
PAPER = {
    "QQP": "90.71 → 90.73",
    "MNLI": "84.11 → 84.19",
    "SST-2": "92.66 → 92.55",
    "QNLI": "90.99 → 90.92",
    "RTE": "64.98 → 65.34",
    "MRPC": "84.56 / 89.19 → 84.80 / 89.42",
    "STS-B": "88.70 / 88.48 → 88.79 / 88.58 (Pearson / Spearman)",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classifiers", nargs="+", type=Path, help="folders that las_sj.finetune wrote")
    parser.add_argument("--data", type=Path, default=GLUE)
    parser.add_argument("--time-steps", type=int, default=16)
    parser.add_argument("--limit", type=int, help="rows of each development split (all)")
    arguments = parser.parse_args()
    print_origin(f"T = {arguments.time_steps}, 15 levels, nearest")
    names = ["task", "rows", "metric", "ANN", "SNN", "difference, points", "95 % interval", "same predictions"]
    print_header([*names, "spikes per neuron", "time, SNN / ANN", "paper, BERT-base"])
    differences = []
    for folder in arguments.classifiers:
        classifier = Classifier.load(folder, arguments.data, arguments.limit)
        result = classifier.evaluate(classifier.pair(time_steps=arguments.time_steps))
        differences.append(mean(abs(100 * m.difference) for m in result.measures))
        for m in result.measures:
            values = [f"{100 * m.ann:.3f}", f"{100 * m.snn:.3f}", f"{100 * m.difference:+.3f}"]
            interval = f"{100 * m.low:+.3f} … {100 * m.high:+.3f}"
            same = "" if result.agreement is None else f"{100 * result.agreement:.2f} %"
            costs = [f"{result.spikes_per_neuron:.3f}", f"{result.time_ratio:.2f}"]
            print_row([result.task, result.rows, m.metric, *values, interval, same, *costs, PAPER.get(result.task, "")])
    print(f"\nmean |difference|: {mean(differences):.3f} points")


if __name__ == "__main__":
    main()
