"""SmolLM2-135M (Llama) on WikiText-2: perplexity, divergence and spikes of the network against its ANN.

    python benchmarks/language_model.py

The first 16,384 tokens of the raw test text in windows of 512, calibrated on 4,096 tokens of the validation text.
Accumulated execution. Prints a Markdown table, a row as soon as it is measured.
"""

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from real_models import DATA, smollm2

import las_sj
from las_sj.conversion.quality import compare
from las_sj.data.text import read_text, token_windows

SETTINGS: dict[str, dict[str, Any]] = {
    "T=16": {"time_steps": 16},
    "T=12": {"time_steps": 12},
    "T=10": {"time_steps": 10},
    "T=12, at most 2 spikes": {"time_steps": 12, "max_spikes": 2},
    "T=12, at most 1 spike": {"time_steps": 12, "max_spikes": 1},
    "T=16, single MT instead of OAT": {"time_steps": 16, "outlier_aware": False},
    "T=12, single MT instead of OAT": {"time_steps": 12, "outlier_aware": False},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with wikitext-2 and wikitext-2-raw")
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="SETTING")
    arguments = parser.parse_args()
    ann, tokenizer = smollm2()
    calibration_text = read_text(arguments.data / "wikitext-2" / "valid.txt")
    test_text = read_text(arguments.data / "wikitext-2-raw" / "wiki.test.raw")
    calibration = token_windows(tokenizer, calibration_text, 4096, arguments.window, 1)
    evaluation = token_windows(tokenizer, test_text, arguments.tokens, arguments.window, 1)
    print(
        "| setting | ANN perplexity | SNN perplexity | difference | mean KL | same top token | spikes per neuron "
        "| inputs out of range |\n|" + " --- |" * 8
    )
    for name in arguments.only:
        snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(**SETTINGS[name]), calibration)
        las_sj.set_execution(snn, "accumulated")
        with torch.no_grad():
            quality, monitor = compare(ann, snn, evaluation)
        assert quality.ann_perplexity
        assert quality.snn_perplexity
        change = 100 * (quality.snn_perplexity / quality.ann_perplexity - 1)
        outside = sum(counts.out_of_range for counts in monitor.sites.values())
        print(
            f"| {name} | {quality.ann_perplexity:.4f} | {quality.snn_perplexity:.4f} | {change:+.4f} % "
            f"| {quality.kl:.2e} | {quality.top1_agreement:.4f} | {monitor.spikes_per_neuron:.3f} | {outside} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
