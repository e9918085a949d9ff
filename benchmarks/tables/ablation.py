"""What each part is worth: the LAS paper's ablation on a classifier, in the temporal execution.

    PYTHONPATH=benchmarks python benchmarks/tables/ablation.py sst2 [--limit 200]

Each row changes one thing: a single MT neuron for each OAT neuron; or an ordinary operation at each time step for its
spike-equivalent form: the attention products of step t only (Q(t)·K(t)ᵀ, P(t)·V(t)), softmax or norm of what arrives at
step t, each step's result counting for 1/T. Prints a Markdown table.
"""

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from support import GLUE, Classifier, print_origin
from timing import print_header, print_row
from torch import Tensor

import las_sj
from las_sj.models.layers import attention, norm, softmax


def products_of_each_step(a_seq: Tensor, b_seq: Tensor) -> Tensor:
    """Matrix products of what arrives together, [T, ..., M, K] and [T, ..., K, N]."""
    return torch.matmul(a_seq, b_seq)


def softmax_of_each_step(layer: softmax.SpikingSoftmax, scores: Tensor, mask: Tensor | None, *rest: object) -> Tensor:
    """Softmax of trains [T, ...] step by step, coded."""
    scores = scores if mask is None else scores + layer.per_step(mask)
    return layer.probability_node(torch.softmax(scores, -1) / len(scores))


def norm_of_each_step(layer: norm.SpikingRMSNorm, x: Tensor) -> Tensor:
    """LayerNorm or RMSNorm of currents [T·B, ..., C] step by step, coded before the gains."""
    x = layer.centre(x)
    normed = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + layer.epsilon)
    output = layer.fire(layer.output_node, layer.per_step(1.0) * normed)
    output = output if layer.gains is None else output * layer.gains
    bias = getattr(layer, "bias", None)
    return output if bias is None else output + layer.per_step(bias)


VARIANTS: dict[str, tuple[dict[str, Any], Callable[[], AbstractContextManager[Any]]]] = {
    "the whole": ({}, nullcontext),
    "single MT neurons": ({"outlier_aware": False}, nullcontext),
    "ordinary attention products": ({}, lambda: patch.object(attention, "spiking_matmul", products_of_each_step)),
    "ordinary softmax": (
        {},
        lambda: patch.object(softmax.SpikingSoftmax, "probability_trains", softmax_of_each_step),
    ),
    "ordinary norm": ({}, lambda: patch.object(norm.SpikingRMSNorm, "forward", norm_of_each_step)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classifier", type=Path, help="folder that las_sj.finetune wrote")
    parser.add_argument("--data", type=Path, default=GLUE)
    parser.add_argument("--time-steps", type=int, nargs="+", default=[16, 12])
    parser.add_argument("--limit", type=int, default=200, help="rows of the development split (200)")
    arguments = parser.parse_args()
    classifier = Classifier.load(arguments.classifier, arguments.data, arguments.limit)
    print_origin(classifier.task.name, f"{arguments.limit} rows", "temporal execution")
    print_header(["T", "network", "metric", "ANN", "SNN", "difference, points", "same predictions"])
    for steps in arguments.time_steps:
        for name, (settings, variant) in VARIANTS.items():
            pair = classifier.pair(time_steps=steps, **settings)
            las_sj.set_execution(pair.snn, "temporal")
            with variant():
                result = classifier.evaluate(pair)
            m = result.measures[0]
            same = "" if result.agreement is None else f"{100 * result.agreement:.2f} %"
            values = [f"{100 * m.ann:.2f}", f"{100 * m.snn:.2f}", f"{100 * m.difference:+.2f}"]
            print_row([steps, name, m.metric, *values, same])


if __name__ == "__main__":
    main()
