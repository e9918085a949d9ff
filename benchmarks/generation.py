"""Greedy text of SmolLM2-135M at T=16 beside its ANN's: how many prompts go on with the very same tokens.

    python benchmarks/generation.py

Ten prompts, the first 12 … 30 tokens of paragraphs of the WikiText-2 raw test text, padded on the left and run as one
batch; 64 new tokens each. Accumulated execution with and without the key-value cache, temporal execution with it.
Calibrated on 4,096 tokens of the validation text. Prints a Markdown table.
"""

import argparse
import copy
import time
from pathlib import Path
from typing import Any

import torch
from real_models import DATA, smollm2
from transformers import PreTrainedTokenizerBase

import las_sj
from las_sj.text import read_text, token_windows

WAYS = (("accumulated", True), ("accumulated", False), ("temporal", True))


def prompts(text: str, tokenizer: PreTrainedTokenizerBase, count: int) -> dict[str, Any]:
    """The beginnings of paragraphs that are no headings, of different length, padded on the left."""
    paragraphs = [line.strip() for line in text.splitlines() if len(line) > 400]
    tokenizer.padding_side = "left"
    cut = [tokenizer(text).input_ids[: 12 + 2 * index] for index, text in enumerate(paragraphs[:count])]
    return dict(tokenizer.pad({"input_ids": cut}, return_tensors="pt"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with wikitext-2 and wikitext-2-raw")
    parser.add_argument("--prompts", type=int, default=10)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--time-steps", type=int, default=16)
    arguments = parser.parse_args()
    ann, tokenizer = smollm2()
    batch = prompts(read_text(arguments.data / "wikitext-2-raw" / "wiki.test.raw"), tokenizer, arguments.prompts)
    calibration = token_windows(tokenizer, read_text(arguments.data / "wikitext-2" / "valid.txt"), 4096, 512, 1)
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(time_steps=arguments.time_steps), calibration)
    options: dict[str, Any] = {"max_new_tokens": arguments.new_tokens, "do_sample": False}
    start = time.perf_counter()
    expected = ann.generate(**batch, **options)
    seconds = time.perf_counter() - start
    width = batch["input_ids"].shape[1]
    print("| run | cache | same text as the ANN | same tokens before the first other one | tokens per second |")
    print("| --- | --- | --- | --- | --- |")
    count = arguments.prompts * arguments.new_tokens
    print(f"| ANN | yes | | | {count / seconds:.1f} |", flush=True)
    for execution, cached in WAYS:
        las_sj.set_execution(snn, execution)
        start = time.perf_counter()
        found = snn.generate(**batch, **options, use_cache=cached)
        seconds = time.perf_counter() - start
        length = max(found.shape[1], expected.shape[1])
        same = _padded(found, length)[:, width:] == _padded(expected, length)[:, width:]
        whole, first = int(same.all(1).sum()), same.int().cumprod(1).sum(1).float().mean()
        cache = "yes" if cached else "no"
        print(
            f"| {execution} | {cache} | {whole} of {arguments.prompts} | {first:.1f} of {same.shape[1]} "
            f"| {count / seconds:.1f} |",
            flush=True,
        )


def _padded(tokens: torch.Tensor, length: int) -> torch.Tensor:
    return torch.nn.functional.pad(tokens, (0, length - tokens.shape[1]), value=-1)


if __name__ == "__main__":
    main()
