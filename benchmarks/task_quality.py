"""Tasks on real weights, ANN beside SNN at T=16, on whole development sets.

    python benchmarks/task_quality.py [--classifier DIR]

STS-B: Spearman correlation of the cosine of MiniLM's mean-pooled embeddings with people's scores. SST-2, with
--classifier: accuracy of what `python -m las_sj.finetune MODEL --task SST-2 --output DIR` made. Accumulated execution,
calibrated on training rows. Prints a Markdown table. Perplexity: benchmarks/language_model.py.
"""

import argparse
import copy
import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from real_models import DATA, minilm, padded_batches
from scipy.stats import spearmanr
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

import las_sj

Batch = dict[str, torch.Tensor]


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Rows of a table of GLUE."""
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def converted(ann: PreTrainedModel, calibration: list[Batch], time_steps: int) -> PreTrainedModel:
    """A spiking copy in the accumulated execution."""
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(time_steps=time_steps), calibration)
    las_sj.set_execution(snn, "accumulated")
    return snn


@torch.no_grad()
def embeddings(model: PreTrainedModel, batches: Iterable[Batch]) -> torch.Tensor:
    """Mean over the tokens of each sentence, of length 1."""
    means = []
    for batch in tqdm(batches, leave=False):
        mask = batch["attention_mask"].unsqueeze(-1)
        means.append((model(**batch)[0] * mask).sum(1) / mask.sum(1))
    return torch.nn.functional.normalize(torch.cat(means), dim=-1)


def sts_b(data: Path, time_steps: int) -> str:
    ann, tokenizer = minilm()
    rows = rows_of(data / "glue" / "STS-B" / "dev.tsv")
    train = [row["sentence1"] for row in rows_of(data / "glue" / "STS-B" / "train.tsv")[:256]]
    snn = converted(ann, padded_batches(tokenizer, train), time_steps)
    scores = [float(row["score"]) for row in rows]
    batches = [padded_batches(tokenizer, [row[name] for row in rows], 16) for name in ("sentence1", "sentence2")]
    found = []
    for model in (ann, snn):
        first, second = (embeddings(model, part) for part in batches)
        found.append(100 * float(spearmanr((first * second).sum(1).numpy(), scores).statistic))
    return _row("STS-B, Spearman × 100", len(rows), *found, "")


@torch.no_grad()
def sst_2(data: Path, classifier: Path, time_steps: int) -> str:
    ann = AutoModelForSequenceClassification.from_pretrained(classifier).eval()
    tokenizer = AutoTokenizer.from_pretrained(classifier)
    rows = rows_of(data / "glue" / "SST-2" / "dev.tsv")
    train = [row["sentence"] for row in rows_of(data / "glue" / "SST-2" / "train.tsv")[:256]]
    snn = converted(ann, padded_batches(tokenizer, train), time_steps)
    batches = padded_batches(tokenizer, [row["sentence"] for row in rows], 16)
    labels = np.array([int(row["label"]) for row in rows])
    classes = [
        torch.cat([model(**batch).logits.argmax(-1) for batch in tqdm(batches, leave=False)]).numpy()
        for model in (ann, snn)
    ]
    accuracies = [100 * float((found == labels).mean()) for found in classes]
    return _row("SST-2, accuracy", len(rows), *accuracies, f"{100 * float((classes[0] == classes[1]).mean()):.2f} %")


def _row(name: str, rows: int, ann: float, snn: float, agreement: str) -> str:
    return f"| {name} | {rows} | {ann:.3f} | {snn:.3f} | {snn - ann:+.3f} | {agreement} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with glue")
    parser.add_argument("--classifier", type=Path, help="folder of a classifier for SST-2")
    parser.add_argument("--time-steps", type=int, default=16)
    arguments = parser.parse_args()
    print("| task | rows | ANN | SNN | difference, points | same predictions |\n|" + " --- |" * 6)
    print(sts_b(arguments.data, arguments.time_steps), flush=True)
    if arguments.classifier is not None:
        print(sst_2(arguments.data, arguments.classifier, arguments.time_steps), flush=True)


if __name__ == "__main__":
    main()
