"""Energy of all-MiniLM-L6-v2 and SmolLM2-135M by time steps and levels, in three accountings.

    python benchmarks/energy_by_steps.py

MiniLM: 64 sentences of STS-B dev, calibrated on 256 others. SmolLM2: WikiText-2 raw test text, calibrated on validation
text. Accumulated execution. Prints a Markdown table.
"""

import argparse
import copy
from pathlib import Path
from typing import Any

from real_models import DATA, minilm, padded_batches, sentences, smollm2
from transformers import PreTrainedModel

import las_sj
from las_sj.analysis import energy_report
from las_sj.analysis.energies.prices import EQUAL_LOSS
from las_sj.conversion.quality import Quality, compare
from las_sj.data.text import read_text, token_windows
from las_sj.reports.equal_loss import fewest_bits

TIME_STEPS, LEVELS = (8, 12, 16), (1, 15)
COLUMNS = (
    "model",
    "T",
    "levels",
    "loss of the SNN",
    "spikes per neuron",
    "µJ per token, ANN (fp32 MACs)",
    "µJ per token, SNN (paper)",
    "paper",
    "level-aware",
    "with memory",
    "equal-loss bits",
    "with memory, equal loss",
)

Batches = list[dict[str, Any]]


def loss_of(quality: Quality) -> str:
    """What the conversion lost, as people put it."""
    if quality.snn_perplexity is None or quality.ann_perplexity is None:
        return f"{quality.relative_error:.1e} of hidden states"
    change = 100 * (quality.snn_perplexity / quality.ann_perplexity - 1)
    return f"{change:+.2f} % of perplexity {quality.ann_perplexity:.2f}"


def measure(name: str, ann: PreTrainedModel, data: tuple[Batches, Batches], time_steps: int, levels: int) -> list[str]:
    """One row of the table."""
    calibration, evaluation = data
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(time_steps=time_steps, levels=levels), calibration)
    las_sj.set_execution(snn, "accumulated")
    quality, monitor = compare(ann, snn, evaluation)
    report = energy_report(monitor, equal_loss_bits=fewest_bits(snn, evaluation[:1]))
    totals = report.totals()["paper"]
    return [
        name,
        str(time_steps),
        str(levels),
        loss_of(quality),
        f"{monitor.spikes_per_neuron:.3f}",
        f"{totals['ann_pj_per_token'] * 1e-6:.1f}",
        f"{totals['snn_pj_per_token'] * 1e-6:.1f}",
        *(f"{report.ratio(accounting):.3f}" for accounting in ("paper", "level_aware", "with_memory")),
        "over 24" if report.equal_loss_bits is None else str(report.equal_loss_bits),
        "" if report.equal_loss_bits is None else f"{report.ratio(EQUAL_LOSS):.3f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--tokens", type=int, default=1024, help="for SmolLM2")
    parser.add_argument("--window", type=int, default=256, help="for SmolLM2")
    parser.add_argument("--models", nargs="+", choices=("minilm", "smollm2"), default=["minilm", "smollm2"])
    arguments = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS), flush=True)
    for name in arguments.models:
        ann, tokenizer = minilm() if name == "minilm" else smollm2()
        if name == "minilm":
            texts = sentences(arguments.data)
            data = (padded_batches(tokenizer, texts[:256]), padded_batches(tokenizer, texts[700:764]))
        else:
            paths = (arguments.data / "wikitext-2" / "valid.txt", arguments.data / "wikitext-2-raw" / "wiki.test.raw")
            calibration, evaluation = (
                token_windows(tokenizer, read_text(path), tokens, arguments.window, 1)
                for path, tokens in zip(paths, (4096, arguments.tokens), strict=True)
            )
            data = (calibration, evaluation)
        for time_steps in TIME_STEPS:
            for levels in LEVELS:
                print("| " + " | ".join(measure(name, ann, data, time_steps, levels)) + " |", flush=True)


if __name__ == "__main__":
    main()
