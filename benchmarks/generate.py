"""Greedy text of SmolLM2-135M at T=16 beside its ANN's: tokens per second, and whether they are the very same tokens.

    python benchmarks/generate.py [--batch-sizes 1,8] [--temporal]
    python benchmarks/generate.py --same-text

Prompts are the first 12, 14, 16 … tokens of paragraphs of the WikiText-2 raw test text, padded on the left and run as
one batch; 64 new tokens each. Calibrated on 4,096 tokens of the validation text. --same-text runs --prompts prompts in
accumulated execution with and without the key-value cache, and in temporal execution with it.
"""

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from real_models import DATA, smollm2
from timing import in_turn, machine, now, print_header, print_row
from torch import Tensor
from transformers import PreTrainedTokenizerBase

import las_sj
from las_sj.data.text import read_text, token_windows

WAYS = (("accumulated", True), ("accumulated", False), ("temporal", True))


def prompts(text: str, tokenizer: PreTrainedTokenizerBase, count: int) -> dict[str, Any]:
    """The beginnings of paragraphs that are no headings, of different length, padded on the left."""
    paragraphs = [line.strip() for line in text.splitlines() if len(line) > 400]
    tokenizer.padding_side = "left"
    cut = [tokenizer(text).input_ids[: 12 + 2 * index] for index, text in enumerate(paragraphs[:count])]
    return dict(tokenizer.pad({"input_ids": cut}, return_tensors="pt"))


class Pair:
    """The ANN and its conversion, generating from the same prompts."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.ann: Any
        self.ann, self.tokenizer = smollm2()
        valid = read_text(arguments.data / "wikitext-2" / "valid.txt")
        calibration = token_windows(self.tokenizer, valid, 4096, 512, 1)
        config = las_sj.LASConfig(time_steps=arguments.time_steps)
        self.snn: Any = las_sj.convert(copy.deepcopy(self.ann), config, calibration).to(arguments.device)
        self.ann.to(arguments.device)
        self.text = read_text(arguments.data / "wikitext-2-raw" / "wiki.test.raw")
        self.device = arguments.device
        self.options = {"max_new_tokens": arguments.new_tokens, "do_sample": False}

    def batch(self, count: int) -> dict[str, Tensor]:
        """Prompts for both."""
        return {name: value.to(self.device) for name, value in prompts(self.text, self.tokenizer, count).items()}

    def run(self, execution: str | None, batch: dict[str, Tensor], cached: bool = True) -> Tensor:
        """Prompts and new tokens, of the ANN without an execution."""
        if execution is None:
            return self.ann.generate(**batch, **self.options, use_cache=cached)  # type: ignore[no-any-return]
        las_sj.set_execution(self.snn, execution)
        return self.snn.generate(**batch, **self.options, use_cache=cached)  # type: ignore[no-any-return]


def same_tokens(found: Tensor, expected: Tensor, prompt: int) -> Tensor:
    """Which new tokens are the same, bool [prompts, new]; texts that end early are filled up."""
    length = max(found.shape[1], expected.shape[1])
    return _filled(found, length)[:, prompt:] == _filled(expected, length)[:, prompt:]


def _filled(tokens: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(tokens, (0, length - tokens.shape[1]), value=-1)


def same_text(pair: Pair, count: int, new_tokens: int) -> None:
    """How many prompts go on with the same tokens as the ANN's, in each way."""
    batch = pair.batch(count)
    start = now()
    expected = pair.run(None, batch)
    columns = ["run", "cache", "same text as the ANN", "same tokens before the first other one", "tokens per second"]
    print_header(columns)
    print_row(["ANN", "yes", "", "", f"{count * new_tokens / (now() - start):.1f}"])
    for execution, cached in WAYS:
        start = now()
        found = pair.run(execution, batch, cached)
        rate = count * new_tokens / (now() - start)
        same = same_tokens(found, expected, batch["input_ids"].shape[1])
        whole, first = int(same.all(1).sum()), same.int().cumprod(1).sum(1).float().mean()
        text = f"{first:.1f} of {same.shape[1]}"
        print_row([execution, "yes" if cached else "no", f"{whole} of {count}", text, f"{rate:.1f}"])


def speed(pair: Pair, sizes: list[int], executions: list[str], rounds: int, new_tokens: int) -> None:
    """Tokens per second for each size of batch, with the cache."""
    print_header(["prompts", "run", "tokens per second", "spread", "× ANN's rate", "same tokens"])
    pair.options["min_new_tokens"] = new_tokens  # all have the same length
    for size in sizes:
        batch = pair.batch(size)
        outputs: dict[str, Tensor] = {}

        def call(name: str, execution: str | None, batch: Any = batch, outputs: Any = outputs) -> Callable[[], object]:
            return lambda: outputs.update({name: pair.run(execution, batch)})

        calls = {"ANN": call("ANN", None)} | {execution: call(execution, execution) for execution in executions}
        times = in_turn(calls, rounds)
        for name, taken in times.items():
            rates = [size * new_tokens / seconds for seconds in taken.seconds]
            same = same_tokens(outputs[name], outputs["ANN"], batch["input_ids"].shape[1])
            print_row(
                [
                    size,
                    name,
                    f"{size * new_tokens / taken.median:.1f}",
                    f"{max(rates) - min(rates):.1f}",
                    f"{times['ANN'].median / taken.median:.2f}",
                    f"{100 * float(same.float().mean()):.1f} %",
                ]
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with wikitext-2 and wikitext-2-raw")
    parser.add_argument("--same-text", action="store_true", help="compare whole texts")
    parser.add_argument("--prompts", type=int, default=10, help="of --same-text (%(default)s)")
    parser.add_argument("--batch-sizes", default="1,8")
    parser.add_argument("--temporal", action="store_true", help="temporal execution too: slow")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--time-steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    pair = Pair(arguments)
    print(f"{machine(arguments.device)}, T = {arguments.time_steps}, {arguments.new_tokens} new tokens\n")
    if arguments.same_text:
        same_text(pair, arguments.prompts, arguments.new_tokens)
        return
    sizes = [int(size) for size in arguments.batch_sizes.split(",")]
    executions = ["accumulated", *(["temporal"] if arguments.temporal else [])]
    speed(pair, sizes, executions, arguments.rounds, arguments.new_tokens)


if __name__ == "__main__":
    main()
