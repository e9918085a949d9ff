"""What smaller tables of HG neurons cost: lines that a population may store against loss, for each function alone too.

    PYTHONPATH=benchmarks python benchmarks/tables/hg_sizes.py [--tokens 2048] [--model smollm2 | minilm | FOLDER]

A language model on the first 16,384 tokens of WikiText-2's raw test text, windows of 512, calibrated on 2,048 tokens of
the validation text, accumulated execution: change of perplexity with a 95 % interval from paired differences of tokens,
to the ANN and to the network whose tables are as large as the tolerance asks for. all-MiniLM-L6-v2, or another encoder:
relative error of the last hidden states, of other text than that of the calibration. Prints Markdown tables.
"""

import argparse
import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from real_models import DATA, minilm, smollm2
from support import print_origin
from timing import print_header, print_row
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

import las_sj
from las_sj.checkpoint.loading import load_model
from las_sj.data.text import is_language_model, read_text, text_batches
from las_sj.models import named_sites
from las_sj.neurons import HGNode

SIZES = (16, 32, 64, 128, 256)
WINDOW = 512
CALIBRATION_TOKENS = 2048
ALL = "all"

Ranges = dict[HGNode, tuple[float, float]]


@dataclass(frozen=True)
class Change:
    """How much higher a perplexity is, per cent, with its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, losses: Tensor, reference: Tensor) -> "Change":
        """From losses of the same tokens, nats, [N]."""
        differences = losses - reference
        mean, margin = float(differences.mean()), 1.96 * float(differences.std()) / math.sqrt(len(differences))
        return cls(*(100 * math.expm1(change) for change in (mean, mean - margin, mean + margin)))

    def cells(self) -> list[str]:
        return [f"{self.value:+.3f}", f"{self.low:+.3f} … {self.high:+.3f}"]


@dataclass(frozen=True)
class Subject:
    """A model with the texts that it is calibrated and measured on."""

    ann: PreTrainedModel
    calibration: list[dict[str, Tensor]]
    texts: list[dict[str, Tensor]]

    @property
    def tokens(self) -> int:
        """Padding aside."""
        masks = (batch.get("attention_mask", torch.ones_like(batch["input_ids"])) for batch in self.texts)
        return sum(int(mask.sum()) for mask in masks)

    @property
    def predicts(self) -> bool:
        return is_language_model(self.ann)

    @torch.no_grad()
    def outputs(self, model: PreTrainedModel, label: str) -> Tensor:
        """Losses of all tokens but the first of each window, [N], or last hidden states, [N, C]; padding aside."""
        found = []
        for batch in tqdm(self.texts, desc=label, leave=False):
            if not self.predicts:
                found.append(model(**batch).last_hidden_state[batch["attention_mask"].bool()])
                continue
            logits, targets = model(**batch).logits[:, :-1], batch["input_ids"][:, 1:]
            rows = zip(logits.flatten(0, 1).split(WINDOW // 4), targets.flatten().split(WINDOW // 4), strict=True)
            found += [torch.nn.functional.cross_entropy(part.double(), ids, reduction="none") for part, ids in rows]
        return torch.cat(found)


def subject_of(name: str, data: Path, tokens: int) -> Subject:
    """The model of a name or a folder."""
    ann, tokenizer = smollm2() if name == "smollm2" else minilm() if name == "minilm" else load_model(name)
    calibration, test = (read_text(data / name) for name in ("wikitext-2/valid.txt", "wikitext-2-raw/wiki.test.raw"))
    batches = partial(text_batches, ann, tokenizer, window=WINDOW, batch_size=1)
    return Subject(ann, batches(calibration, tokens=CALIBRATION_TOKENS), batches(test, tokens=tokens))


def limit(ranges: Ranges, lines: int | None, function: str) -> list[HGNode]:
    """Refit the neurons of a function, or of all, to so many lines, and all others to what the tolerance asks for.

    Returns:
        The neurons of the function.
    """
    chosen = [node for node in ranges if function in (ALL, node.function.name)]
    for node, (low, high) in ranges.items():
        node.limit(lines if node in set(chosen) else None)
        node.set_range(low, high)
    return chosen


def rows_of(sizes: list[int], functions: list[str]) -> Iterator[tuple[str, int]]:
    """All functions together first, then each alone."""
    return ((function, size) for function in functions for size in sizes)


def described(nodes: list[HGNode]) -> list[Any]:
    """The largest tables among some neurons, and their errors."""
    absolute = [node.bound for node in nodes if not math.isfinite(node.relative_bound)]
    relative = [node.relative_bound for node in nodes if math.isfinite(node.relative_bound)]
    errors = [f"{max(values):.1e}" if values else "" for values in (absolute, relative)]
    return [max(node.stored_lines for node in nodes), max(node.sub_neurons for node in nodes), *errors]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="smollm2, minilm, or a folder (smollm2)")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with wikitext-2 and wikitext-2-raw")
    parser.add_argument("--time-steps", type=int, default=16)
    parser.add_argument("--levels", type=int, default=15)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), metavar="LINES")
    parser.add_argument("--functions", nargs="+", metavar="NAME", help=f"of rows, or {ALL!r} ({ALL}, then each alone)")
    parser.add_argument("--tokens", type=int, default=16384)
    arguments = parser.parse_args()
    subject = subject_of(arguments.model, arguments.data, arguments.tokens)
    settings = las_sj.LASConfig(time_steps=arguments.time_steps, levels=arguments.levels, hg_lines=max(arguments.sizes))
    snn = las_sj.convert(copy.deepcopy(subject.ann), settings, subject.calibration)
    las_sj.set_execution(snn, "accumulated")
    # A neuron with a limit of lines keeps the range that calibration saw.
    ranges = {
        site.node: (site.node.low, site.node.high) for _, site in named_sites(snn) if isinstance(site.node, HGNode)
    }
    functions = arguments.functions or [ALL, *sorted({node.function.name for node in ranges})]
    print_origin(
        type(subject.ann).__name__, f"{subject.tokens} tokens, T = {settings.time_steps}, {settings.levels} levels"
    )
    report(subject, snn, ranges, list(rows_of(arguments.sizes, functions)))


def report(subject: Subject, snn: PreTrainedModel, ranges: Ranges, rows: list[tuple[str, int]]) -> None:
    """Print the table, a row as soon as it is measured."""
    of_loss = ["ΔPPL to the ANN, %", "95 % interval", "to no limit, %", "95 % interval"]
    columns = ["limit", "of", "most lines", "most sub-neurons", "largest error", "largest relative error"]
    print_header([*columns, *(of_loss if subject.predicts else ["relative error"])])
    expected = subject.outputs(subject.ann, "ANN")
    whole = limit(ranges, None, ALL)
    unlimited = subject.outputs(snn, "no limit")
    print_row(["none", ALL, *described(whole), *measured(subject, unlimited, expected, None)])
    for function, size in rows:
        nodes = limit(ranges, size, function)
        found = subject.outputs(snn, f"{function}, {size}")
        print_row([size, function, *described(nodes), *measured(subject, found, expected, unlimited)])


def measured(subject: Subject, found: Tensor, expected: Tensor, unlimited: Tensor | None) -> list[str]:
    """What a row says of the outputs."""
    if not subject.predicts:
        return [f"{float((found - expected).norm() / expected.norm()):.2e}"]
    to_unlimited = ["", ""] if unlimited is None else Change.of(found, unlimited).cells()
    return [*Change.of(found, expected).cells(), *to_unlimited]


if __name__ == "__main__":
    main()
