"""Short forms of norms, softmax and activations against the long ones: stages, loss, spikes and energy.

    python benchmarks/fewer_stages.py [--models minilm smollm2] [--settings 16:15 10:1] [--tokens 1024]

SmolLM2-135M is evaluated on the first tokens of WikiText-2's raw test text in windows of 512, and calibrated on 2,048
tokens of the validation text; MiniLM takes sentences of STS-B, of which the first 32 are evaluated on. Accumulated
execution. Settings are T:levels. Energies are SNN / ANN of the whole network, but for the paper's.
"""

import argparse
import copy
from collections.abc import Callable

import torch
from real_models import DATA, minilm, padded_batches, sentences, smollm2
from timing import print_header, print_row
from transformers import PreTrainedModel

import las_sj
from las_sj.analysis import audit, energy_report
from las_sj.conversion.quality import compare
from las_sj.data.batches import Batch
from las_sj.data.text import read_text, token_windows

Case = tuple[PreTrainedModel, list[Batch], list[Batch]]  # the ANN, and batches to calibrate on and to evaluate
AUDITED = 4  # tokens: stages do not depend on their number


def encoder(tokens: int) -> Case:
    """MiniLM; `tokens` do not matter."""
    ann, tokenizer = minilm()
    first, *calibration = padded_batches(tokenizer, sentences()[: 5 * 32], 32)
    return ann, calibration, [first]


def language_model(tokens: int) -> Case:
    """SmolLM2, evaluated on so many tokens."""
    ann, tokenizer = smollm2()
    calibration = token_windows(tokenizer, read_text(DATA / "wikitext-2" / "valid.txt"), 2048, 512, 1)
    test_text = read_text(DATA / "wikitext-2-raw" / "wiki.test.raw")
    return ann, list(calibration), list(token_windows(tokenizer, test_text, tokens, 512, 1))


CASES: dict[str, Callable[[int], Case]] = {"minilm": encoder, "smollm2": language_model}


def measured(case: Case, config: las_sj.LASConfig) -> list[str]:
    """Cells: stages, analog products, loss, KL, spikes per neuron, and ratios of energies."""
    ann, calibration, evaluation = case
    snn = las_sj.convert(copy.deepcopy(ann), config, calibration)
    found = audit(snn, {"input_ids": evaluation[0]["input_ids"][:1, :AUDITED]})
    las_sj.set_execution(snn, "accumulated")
    with torch.no_grad():
        quality, monitor = compare(ann, snn, evaluation)
    energy = energy_report(monitor)
    loss = f"{quality.relative_error:.2e}"
    if quality.snn_perplexity and quality.ann_perplexity:
        loss = f"{100 * (quality.snn_perplexity / quality.ann_perplexity - 1):+.4f} %"
    kl = "" if quality.kl is None else f"{quality.kl:.2e}"
    ratios = [f"{energy.ratio(accounting):.4f}" for accounting in ("paper", "level_aware", "with_memory")]
    return [str(found.stages), str(found.analog_products), loss, kl, f"{monitor.spikes_per_neuron:.3f}", *ratios]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--settings", nargs="+", default=["16:15", "10:1"], metavar="T:LEVELS")
    parser.add_argument("--tokens", type=int, default=1024, help="of SmolLM2 (%(default)s)")
    arguments = parser.parse_args()
    names = ["stages", "analog products", "ΔPPL, or relative error", "mean KL", "spikes per neuron"]
    print_header(["model", "T", "levels", "form", *names, "paper", "level-aware", "with memory"])
    for model in arguments.models:
        case = CASES[model](arguments.tokens)
        for setting in arguments.settings:
            time_steps, levels = map(int, setting.split(":"))
            for form, fewer in (("long", False), ("short", True)):
                config = las_sj.LASConfig(time_steps=time_steps, levels=levels, fewer_stages=fewer)
                print_row([model, time_steps, levels, form, *measured(case, config)])


if __name__ == "__main__":
    main()
