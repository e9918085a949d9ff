"""A language model on a text by number of time steps: Table 2 of the LAS paper.

    PYTHONPATH=benchmarks python benchmarks/tables/language_modelling.py [--work DIR]

SmolLM2-135M on the whole WikiText-2 raw test text, windows of 512 tokens that predict 512 each, calibrated on 4,096
tokens of the validation text, accumulated execution; or any model and text. The ANN and all networks take each batch in
turn, so that the ANN runs once. With --work, finished batches are kept, and the same command goes on after an
interruption.
Prints a Markdown table.
"""

import argparse
import copy
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from real_models import DATA, smollm2
from support import print_origin
from timing import now, print_header, print_row
from transformers import PreTrainedModel

import las_sj
from las_sj.checkpoint.loading import load_model
from las_sj.data.text import read_text, token_windows
from las_sj.evaluation import language
from las_sj.evaluation.counted import count_spikes
from las_sj.evaluation.digest import digest_of
from las_sj.evaluation.journal import Journal, Record
from las_sj.evaluation.paired import Pair

# GPT-2 (arXiv 2505.09659, Table 2), ANN → LAS.
PAPER = "the paper, GPT-2, T = 16: WikiText-103 perplexity 16.53 → 16.79, enwik8 0.96 → 0.97 bits per byte"
CALIBRATION_TOKENS = 4096
METRICS = (language.TOKEN, language.WORD)


def settings_of(text: str) -> dict[str, Any]:
    """T, or T:levels, T:levels:rounding, T:levels:rounding:max_spikes."""
    values = text.split(":")
    kinds = (("time_steps", int), ("levels", int), ("rounding", str), ("max_spikes", int))
    return {name: kind(value) for (name, kind), value in zip(kinds, values, strict=False)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a language model (SmolLM2-135M)")
    parser.add_argument("--text", type=Path, default=DATA / "wikitext-2-raw" / "wiki.test.raw")
    parser.add_argument("--calibration", type=Path, default=DATA / "wikitext-2" / "valid.txt")
    parser.add_argument("--settings", nargs="+", default=["16", "12", "10", "8"], metavar="T[:LEVELS[:ROUNDING[:MAX]]]")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--stride", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--limit", type=int, help="tokens (all)")
    parser.add_argument("--work", type=Path, help="folder for finished batches")
    arguments = parser.parse_args()
    ann, tokenizer = smollm2() if arguments.model is None else load_model(arguments.model)
    calibration = token_windows(tokenizer, read_text(arguments.calibration), CALIBRATION_TOKENS, arguments.window, 1)
    models: dict[str, PreTrainedModel] = {"ANN": ann}
    for text in arguments.settings:
        snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(**settings_of(text)), calibration)
        las_sj.set_execution(snn, "accumulated")
        models[text] = snn
    sizes = (arguments.window, arguments.stride, arguments.batch_size, arguments.limit)
    source = (language.read_file(arguments.text), arguments.text.name)
    text = language.prepare_text(ann, tokenizer, source, *sizes)
    fingerprint = {name: str(value) for name, value in vars(arguments).items()}
    fingerprint |= {name: digest_of(model.state_dict()) for name, model in models.items()}
    scratch = tempfile.TemporaryDirectory() if arguments.work is None else nullcontext(str(arguments.work))
    with scratch as folder:
        journal = Journal(Path(folder) / "finished", fingerprint)
        numbers = range(len(text.batches))
        identities = [text.identity(index) for index in numbers]
        records = journal.collect("batches", identities, lambda index: run_all(models, text, index))
        spikes = {}
        batches = [text.inputs(index) for index in numbers]
        for name in arguments.settings:
            spikes[name] = count_spikes(Pair(ann, models[name], tokenizer), batches, journal, name)
    report(text, records, spikes)


@torch.no_grad()
def run_all(models: dict[str, PreTrainedModel], text: language.PreparedText, index: int) -> Record:
    """Losses, seconds and agreements with the ANN of a batch."""
    record: Record = {}
    reference = None
    for name, model in models.items():
        start = now()
        logits = model(**text.inputs(index)).logits
        seconds = now() - start
        reference = logits if reference is None else reference
        agreements = language.agreements_of(reference, logits, text.targets(index))
        losses = language.losses_of(logits, text.targets(index))
        record[name] = {"losses": losses, "seconds": seconds, "agreements": agreements}
    return record


def report(
    text: language.PreparedText, records: list[Record], spikes: dict[str, tuple[float, dict[str, float]]]
) -> None:
    """Print the table."""
    print_origin(text.description)
    losses = {name: np.concatenate([r[name]["losses"] for r in records]) for name in ("ANN", *spikes)}
    seconds = {name: sum(r[name]["seconds"] for r in records) for name in losses}
    columns = [f"{metric}, {side}" for metric in METRICS for side in ("ANN", "SNN", "difference", "95 % interval")]
    print_header(["setting", *columns, "same token", "time, SNN / ANN", "spikes per neuron", "energy (paper)"])
    for name, (rate, energy) in spikes.items():
        cells = []
        for metric in METRICS:
            m = language.measure_text(metric, (losses["ANN"], losses[name]), text.counts[metric], 0)
            cells += [f"{m.ann:.4f}", f"{m.snn:.4f}", f"{m.difference:+.4f}", f"{m.low:+.4f} … {m.high:+.4f}"]
        same = sum(r[name]["agreements"] for r in records) / text.tokens
        costs = [f"{seconds[name] / seconds['ANN']:.2f}", f"{rate:.3f}", f"{energy['paper']:.3f}"]
        print_row([f"T={name}", *cells, f"{100 * same:.2f} %", *costs])
    print(f"\n{PAPER}")


if __name__ == "__main__":
    main()
