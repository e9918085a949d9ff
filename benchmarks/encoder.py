"""all-MiniLM-L6-v2 (BERT) on 64 real sentences with padding: error, equality of the executions, padding.

    python benchmarks/encoder.py

Calibrated on 256 other sentences of the same set. Prints a Markdown table.
"""

import argparse
import copy
import math
from pathlib import Path

import torch
from real_models import DATA, minilm, padded_batches, sentences, to_double
from torch import Tensor
from transformers import PreTrainedModel

import las_sj

CALIBRATION, EVALUATION = slice(0, 256), slice(700, 764)

Batches = list[dict[str, Tensor]]


@torch.no_grad()
def hidden_states(model: PreTrainedModel, batches: Batches) -> Tensor:
    """Hidden states of all tokens that are not padding, [tokens, C]."""
    return torch.cat([model(**batch)[0][batch["attention_mask"].bool()] for batch in batches])


def relative(output: Tensor, reference: Tensor) -> float:
    """‖output − reference‖ / ‖reference‖, summed in fp64."""
    output, reference = output.double(), reference.double()
    return float((output - reference).norm() / reference.norm())


def run(model: PreTrainedModel, execution: str, batches: Batches) -> Tensor:
    """Hidden states in one execution."""
    las_sj.set_execution(model, execution)
    return hidden_states(model, batches)


def with_other_padding(batches: Batches) -> Batches:
    """The same sentences with other token ids in the padding."""
    changed = []
    for batch in batches:
        ids = torch.where(batch["attention_mask"].bool(), batch["input_ids"], torch.tensor(2003))
        changed.append(batch | {"input_ids": ids})
    return changed


def measure(ann: PreTrainedModel, calibration: Batches, evaluation: Batches, time_steps: int) -> list[str]:
    """One row of the table."""
    reference = hidden_states(ann, evaluation)
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(time_steps=time_steps), calibration)
    accumulated = run(snn, "accumulated", evaluation)
    temporal = run(snn, "temporal", evaluation)
    padding = run(snn, "temporal", with_other_padding(evaluation))
    double = to_double(snn)
    gap = relative(run(double, "temporal", evaluation), run(double, "accumulated", evaluation))
    cosine = torch.nn.functional.cosine_similarity(temporal.double(), reference.double()).min()
    figures = [
        relative(accumulated, reference),
        relative(temporal, reference),
        relative(temporal, accumulated),
        gap,
        1 - float(cosine),
        float((padding - temporal).abs().max()),
    ]
    assert all(math.isfinite(figure) for figure in figures)
    return [str(time_steps), *(f"{figure:.2e}" for figure in figures)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with glue/STS-B/dev.tsv")
    parser.add_argument("--time-steps", type=int, nargs="+", default=[16, 12])
    arguments = parser.parse_args()
    ann, tokenizer = minilm()
    texts = sentences(arguments.data)
    calibration = padded_batches(tokenizer, texts[CALIBRATION])
    evaluation = padded_batches(tokenizer, texts[EVALUATION])
    print(
        "| T | accumulated against ANN | temporal against ANN | temporal against accumulated, fp32 | the same, fp64 "
        "| 1 − cosine, worst token | largest effect of padding content |\n|" + " --- |" * 7
    )
    for time_steps in arguments.time_steps:
        print("| " + " | ".join(measure(ann, calibration, evaluation, time_steps)) + " |", flush=True)


if __name__ == "__main__":
    main()
