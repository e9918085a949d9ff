"""What monitoring costs: an accumulated forward with a SpikeMonitor against one without.

    python benchmarks/monitor.py

all-MiniLM-L6-v2, or with --model smollm2 SmolLM2-135M; runs take turns. Prints a Markdown table.
"""

import argparse
import copy
import statistics
import time

import torch
from real_models import minilm, padded_batches, sentences, smollm2
from tqdm import tqdm
from transformers import PreTrainedModel

import las_sj
from las_sj.analysis import SpikeMonitor

Batch = dict[str, torch.Tensor]


@torch.no_grad()
def seconds_of(model: PreTrainedModel, batch: Batch) -> float:
    """Processor time of one call: wall time says more of what else the machine does."""
    start = time.process_time()
    model(**batch)
    return time.process_time() - start


def measure(snn: PreTrainedModel, batch: Batch, rounds: int) -> tuple[float, float]:
    """Mean seconds without and with a monitor, in turns, the reading of all its figures included."""
    plain, monitored = [], []
    monitor = SpikeMonitor(snn)
    seconds_of(snn, batch)
    for _ in tqdm(range(rounds), leave=False):
        plain.append(seconds_of(snn, batch))
        with monitor:
            monitored.append(seconds_of(snn, batch))
    start = time.process_time()
    assert monitor.firing_rates
    reading = time.process_time() - start
    return statistics.fmean(plain), statistics.fmean(monitored) + reading / rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("minilm", "smollm2"), default="minilm")
    parser.add_argument("--levels", type=int, nargs="+", default=[15, 1])
    parser.add_argument("--rounds", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.model == "minilm":
        ann, tokenizer = minilm()
        batches = padded_batches(tokenizer, sentences()[:64])
        batch = {"input_ids": torch.randint(1000, 20000, (8, 64), generator=torch.Generator().manual_seed(0))}
        padded = batches[0]
    else:
        ann, tokenizer = smollm2()
        text = " ".join(sentences()[:64])
        batches = [dict(tokenizer(text, return_tensors="pt"))]
        batch = {"input_ids": batches[0]["input_ids"][:, :256]}
        padded = {"input_ids": batch["input_ids"].view(2, 128), "attention_mask": torch.ones(2, 128, dtype=torch.long)}
        padded["attention_mask"][0, 100:] = 0
    print("| levels | batch | without, ms | with, ms | overhead |\n|" + " --- |" * 5)
    for levels in arguments.levels:
        snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(levels=levels), batches)
        las_sj.set_execution(snn, "accumulated")
        for name, chosen in (("no padding", batch), ("padded", padded)):
            cells = [1e3 * seconds for seconds in measure(snn, chosen, arguments.rounds)]
            overhead = 100 * (cells[1] / cells[0] - 1)
            shape = "×".join(str(size) for size in chosen["input_ids"].shape)
            print(f"| {levels} | {shape}, {name} | {cells[0]:.0f} | {cells[1]:.0f} | {overhead:.0f} % |", flush=True)


if __name__ == "__main__":
    main()
