"""What a chip would need for the presets of `convert`, beside each other: cores, traffic, time, energy.

    PYTHONPATH=benchmarks python benchmarks/tables/hardware.py [--model smollm2 --tokens 64 --chips 9] [--chip loihi]

The default model with its own texts, or SmolLM2-135M on WikiText-2: calibrated on 2,048 tokens, deployed on the first
tokens of other text. The last rows have fewer stages, and 32 lines in each table. In closed form, one core a layer or
as many as its weights need. Prints a Markdown table, with the processor time that `deploy` took.
"""

import argparse
import copy
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from real_models import DATA, smollm2
from support import print_origin
from timing import print_header, print_row
from transformers import PreTrainedModel

import las_sj
from las_sj.checkpoint.loading import default_model, load_model
from las_sj.hardware.chip import NOT_PUBLISHED, Chip
from las_sj.hardware.deployment import Deployment, Options, deploy

CALIBRATION, EVALUATED, WINDOW = 2048, 1024, 512  # tokens
Batches = list[dict[str, torch.Tensor]]
SETTINGS = {
    "exact": las_sj.LASConfig.preset("exact"),
    "efficient": las_sj.LASConfig.preset("efficient"),
    "minimal": las_sj.LASConfig.preset("minimal"),
    "exact, short": las_sj.LASConfig.preset("exact", fewer_stages=True, hg_lines=32),
    "minimal, short": las_sj.LASConfig.preset("minimal", fewer_stages=True, hg_lines=32),
}
COLUMNS = (
    *("settings", "T", "steps of latency", "cores", "table memory, KB", "spikes per token", "messages", "events"),
    *("µJ per token", "synapses", "somas", "network", "µs a step, mean", "longest", "latency, ms"),
    *("tokens/s, generating", "in a pipeline", "perplexity", "at 8 bits", "seconds"),
)


def read(name: str, data: Path, tokens: int) -> tuple[PreTrainedModel, Batches, Batches, Batches]:
    """A model, with batches to calibrate on, to deploy on, and to judge weights of 8 bits by."""
    if name == "smollm2":
        model, tokenizer = smollm2()
        files = (data / "wikitext-2" / "valid.txt", data / "wikitext-2-raw" / "wiki.test.raw")
    else:
        model, tokenizer = load_model(str(default_model()))
        files = (default_model() / "calibration.txt", default_model() / "evaluation.txt")
    window = min(WINDOW, model.config.max_position_embeddings)

    def windows(file: Path, count: int) -> Batches:
        ids = tokenizer(file.read_text(encoding="utf-8")[: 8 * count], return_tensors="pt").input_ids[0, :count]
        return [{"input_ids": part[None]} for part in ids.split(window)]

    return model, windows(files[0], CALIBRATION), windows(files[1], tokens), windows(files[1], EVALUATED)


def cells_of(settings: str, found: Deployment, seconds: float) -> Iterator[str]:
    """A row of the table."""
    tokens, steps, quality = found.traffic.tokens, found.steps, found.quality
    spikes = sum(counts.spikes for counts in found.traffic.monitor.sites.values())
    tables = sum(population.table_bits for population in found.placement.populations)
    yield from (settings, str(found.traffic.time_steps), f"{found.latency_steps:,}")
    yield f"{len(found.placement.cores):,}"
    yield f"{tables / 8192:,.0f}"
    yield from (f"{count / tokens:,.0f}" for count in (spikes, steps.messages, steps.events))
    parts = (steps.total_pj, *(steps.energy_pj[name] for name in ("synapse", "soma", "network")))
    yield from (NOT_PUBLISHED if value is None else f"{1e-6 * value / tokens:,.1f}" for value in parts)
    mean, rates, latency = steps.mean_seconds, found.tokens_per_second, found.latency_seconds
    if mean is None or rates is None or latency is None:
        yield from [NOT_PUBLISHED] * 5
    else:
        yield from (f"{1e6 * mean:.2f}", f"{1e6 * steps.longest:.2f}", f"{1e3 * latency:,.1f}")
        yield from (f"{rate:,.1f}" for rate in rates)
    assert quality is not None
    yield from (f"{value:.3f}" for value in (quality.ann_perplexity, quality.snn_perplexity) if value is not None)
    yield f"{seconds:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("default", "smollm2"), default="default")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--chip", default="loihi")
    parser.add_argument("--chips", type=int, default=1)
    parser.add_argument("--cores-per-layer", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=[*SETTINGS])
    asked = parser.parse_args()
    ann, calibration, batches, evaluation = read(asked.model, asked.data, asked.tokens)
    options = Options(chips=asked.chips, cores_per_layer=asked.cores_per_layer)
    spread = f"at least {asked.cores_per_layer} cores a layer"
    print_origin(f"{asked.model} on {asked.chip}, {asked.tokens} tokens, {spread}")
    print_header([*COLUMNS])
    for name in asked.only:
        snn = las_sj.convert(copy.deepcopy(ann), SETTINGS[name], calibration)
        start = time.process_time()
        found = deploy(snn, batches, Chip.named(asked.chip), options, evaluation)
        print_row([*cells_of(name, found, time.process_time() - start)])


if __name__ == "__main__":
    main()
