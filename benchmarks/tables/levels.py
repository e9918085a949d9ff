"""Energy of a converted classifier by number of spike levels, and its accuracy: Table 5 of the LAS paper.

    python -m las_sj.finetune MODEL --task SST-2 --output sst2      # a classifier to measure
    PYTHONPATH=benchmarks python benchmarks/tables/levels.py sst2

Calibrated on training sentences; the development set is run in the accumulated execution. Prints a Markdown table.
"""

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from real_models import DATA
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import las_sj
from las_sj.analysis import SpikeMonitor
from las_sj.analysis.energy import EQUAL_LOSS, energy_report
from las_sj.equal_loss import fewest_bits
from las_sj.glue import TASKS, predictions_of, read_glue, score
from las_sj.loading import load_model

LEVELS = (1, 3, 5, 7, 10, 12, 15)
CALIBRATION_ROWS = 256
HEADER = (
    "rounding | max spikes | levels | accuracy, ANN | accuracy, SNN | same predictions | spikes per neuron | paper "
    "| level-aware | with memory | equal-loss bits | with memory, equal loss"
)

Batches = list[dict[str, Any]]


def batches_of(tokenizer: PreTrainedTokenizerBase, texts: list[str], size: int = 32) -> Batches:
    """Padded batches of texts in the order of their length, so that there is little padding."""
    texts = sorted(texts, key=len)
    return [
        dict(tokenizer(texts[start : start + size], padding=True, truncation=True, max_length=128, return_tensors="pt"))
        for start in range(0, len(texts), size)
    ]


@torch.no_grad()
def logits_of(model: PreTrainedModel, batches: Batches, label: str) -> torch.Tensor:
    """Logits [N, C] of all batches."""
    return torch.cat([model(**batch).logits for batch in tqdm(batches, desc=label, leave=False)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classifier", help="folder of a classifier")
    parser.add_argument("--task", default="SST-2", choices=list(TASKS))
    parser.add_argument("--data", type=Path, default=DATA / "glue")
    parser.add_argument("--time-steps", type=int, default=16)
    parser.add_argument("--rows", type=int, help="of the development set (all)")
    arguments = parser.parse_args()
    ann, tokenizer = load_model(arguments.classifier)
    task = TASKS[arguments.task]
    train, dev = (read_glue(task, split, arguments.data) for split in ("train", "dev"))
    calibration = batches_of(tokenizer, list(train["text_a"][:CALIBRATION_ROWS]))
    rows = sorted(zip(dev["text_a"][: arguments.rows], dev["label"], strict=False), key=lambda row: len(row[0]))
    texts, labels = [row[0] for row in rows], [row[1] for row in rows]
    batches = batches_of(tokenizer, texts)
    reference = predictions_of(task, logits_of(ann, batches, "ANN").numpy())
    print(f"| {HEADER} |\n|" + " --- |" * (HEADER.count("|") + 1), flush=True)
    settings = [(rounding, None, levels) for rounding in ("nearest", "floor") for levels in LEVELS]
    settings += [("nearest", limit, levels) for limit in (1, 2) for levels in (1, 15)]
    for rounding, limit, levels in settings:
        config = las_sj.LASConfig(arguments.time_steps, levels, rounding, limit)
        snn = las_sj.convert(copy.deepcopy(ann), config, calibration)
        las_sj.set_execution(snn, "accumulated")
        with SpikeMonitor(snn) as monitor:
            found = predictions_of(task, logits_of(snn, batches, f"{rounding}, {levels}").numpy())
        report = energy_report(monitor, equal_loss_bits=fewest_bits(snn, batches[:: max(1, len(batches) // 4)]))
        bits = report.equal_loss_bits
        cells = [
            rounding,
            "none" if limit is None else str(limit),
            str(levels),
            f"{score(task, reference, labels):.4f}",
            f"{score(task, found, labels):.4f}",
            f"{(found == reference).mean():.4f}",
            f"{monitor.spikes_per_neuron:.3f}",
            *(f"{report.ratio(name):.3f}" for name in ("paper", "level_aware", "with_memory")),
            "over 24" if bits is None else str(bits),
            "" if bits is None else f"{report.ratio(EQUAL_LOSS):.3f}",
        ]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
