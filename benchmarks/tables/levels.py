"""Energy of a converted classifier by number of spike levels, and its score: Table 5 of the LAS paper.

    python -m las_sj.finetune MODEL --task SST-2 --output sst2      # a classifier to measure
    PYTHONPATH=benchmarks python benchmarks/tables/levels.py sst2

Calibrated on training rows; the development split is run in the accumulated execution, with the metric that stands for
the classifier's own task. Prints a Markdown table.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from support import GLUE, Classifier, print_origin
from timing import print_header, print_row
from tqdm import tqdm
from transformers import PreTrainedModel

from las_sj.analysis import SpikeMonitor
from las_sj.analysis.energies.energy import energy_report
from las_sj.analysis.energies.prices import EQUAL_LOSS
from las_sj.evaluation.classification import by_length, columns_of, read_rows
from las_sj.evaluation.glue import GlueTask, predictions_of, score
from las_sj.reports.equal_loss import fewest_bits

LEVELS = (1, 3, 5, 7, 10, 12, 15)
BATCH_SIZE = 32

Batches = list[dict[str, torch.Tensor]]


@torch.no_grad()
def predicted(model: PreTrainedModel, task: GlueTask, batches: Batches, label: str) -> np.ndarray[Any, Any]:
    """Classes or scores of all batches."""
    logits = torch.cat([model(**batch).logits for batch in tqdm(batches, desc=label, leave=False)])
    return predictions_of(task, logits.numpy()[:, columns_of(model, task)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classifier", type=Path, help="a folder that las_sj.finetune made")
    parser.add_argument("--data", type=Path, default=GLUE)
    parser.add_argument("--time-steps", type=int, default=16)
    parser.add_argument("--levels", type=int, nargs="+", default=LEVELS)
    parser.add_argument("--limit", type=int, help="rows of the development split (all)")
    arguments = parser.parse_args()
    classifier = Classifier.load(arguments.classifier, arguments.data, arguments.limit)
    task, rows = classifier.task, read_rows(classifier.task, classifier.data, classifier.limit)
    batches, order = by_length(task, classifier.ann, classifier.tokenizer, rows, BATCH_SIZE)
    labels = [rows["label"][index] for index in order]
    reference = predicted(classifier.ann, task, batches, "ANN")
    print_origin(task.name, f"{len(labels)} rows, T = {arguments.time_steps}, accumulated execution")
    columns = ["rounding", "max spikes", "levels", f"{task.metric}, ANN", f"{task.metric}, SNN", "same predictions"]
    costs = ["spikes per neuron", "paper", "level-aware", "with memory", "equal-loss bits", "with memory, equal loss"]
    print_header([*columns, *costs])
    settings = [(rounding, None, levels) for rounding in ("nearest", "floor") for levels in arguments.levels]
    ends = sorted({min(arguments.levels), max(arguments.levels)})
    settings += [("nearest", most, levels) for most in (1, 2) for levels in ends]
    for rounding, most, levels in settings:
        snn = classifier.pair(time_steps=arguments.time_steps, levels=levels, rounding=rounding, max_spikes=most).snn
        with SpikeMonitor(snn) as monitor:
            found = predicted(snn, task, batches, f"{rounding}, {levels}")
        report = energy_report(monitor, equal_loss_bits=fewest_bits(snn, batches[:: max(1, len(batches) // 4)]))
        bits = report.equal_loss_bits
        cells = [
            rounding,
            "none" if most is None else str(most),
            str(levels),
            f"{score(task, reference, labels):.4f}",
            f"{score(task, found, labels):.4f}",
            f"{(found == reference).mean():.4f}" if task.labels else "",
            f"{monitor.spikes_per_neuron:.3f}",
            *(f"{report.ratio(name):.3f}" for name in ("paper", "level_aware", "with_memory")),
            "over 24" if bits is None else str(bits),
            "" if bits is None else f"{report.ratio(EQUAL_LOSS):.3f}",
        ]
        print_row(cells)


if __name__ == "__main__":
    main()
