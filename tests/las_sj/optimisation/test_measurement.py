"""Losses and their intervals, against plain sums over tokens."""

import math
from collections.abc import Sequence
from statistics import mean, stdev

import pytest
import torch
from tiny_models import bert, convert_tiny, gpt2, run, token_ids
from torch import Tensor

from las_sj.optimisation.measurement import measure

TEXT = {"input_ids": token_ids(2, 6), "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])}
MORE = {"input_ids": token_ids(1, 4, seed=5)}
LENGTHS = [(0, 6), (1, 4)]  # of rows of the text


def half_of_interval(values: Sequence[float]) -> float:
    return 1.96 * stdev(values) / math.sqrt(len(values))


def shares(logits: Tensor) -> list[float]:
    found: list[float] = logits.double().softmax(-1).tolist()
    return found


@torch.no_grad()
def test_intervals_of_a_language_model_with_padding() -> None:
    ann = gpt2(n_layer=1)
    snn = convert_tiny(gpt2(n_layer=1), time_steps=5, levels=1)
    divergences, changes = [], []
    for batch, lengths in ((TEXT, LENGTHS), (MORE, [(0, 4)])):
        exact, coded = ann(**batch).logits, run(snn, "accumulated", **batch).logits
        for row, length in lengths:
            for place in range(length):
                p, q = shares(exact[row, place]), shares(coded[row, place])
                divergences.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
                if place + 1 < length:
                    token = int(batch["input_ids"][row, place + 1])
                    changes.append(math.log(p[token] / q[token]))
    found = measure(snn, [TEXT, MORE])
    assert found.predictions == len(divergences) == 14
    assert len(changes) == 11
    assert found.loss == pytest.approx(mean(divergences), rel=1e-3)
    assert found.loss_interval == pytest.approx(half_of_interval(divergences), rel=1e-3)
    assert found.perplexity_change == pytest.approx(100 * (math.exp(mean(changes)) - 1), rel=1e-3)
    ratio = math.exp(mean(changes))
    assert found.perplexity_interval == pytest.approx(100 * ratio * half_of_interval(changes), rel=1e-3)


@torch.no_grad()
def test_intervals_of_a_model_without_predictions() -> None:
    """The interval of a square root: that of the squares over twice the root."""
    ann, snn = bert(num_hidden_layers=1), convert_tiny(bert(num_hidden_layers=1), time_steps=5, levels=1)
    exact, coded = ann(**TEXT).last_hidden_state.double(), run(snn, "accumulated", **TEXT).last_hidden_state.double()
    places = [(row, place) for row, length in LENGTHS for place in range(length)]
    size = mean(float(exact[place].square().sum()) for place in places)
    errors = [float((coded[place] - exact[place]).square().sum()) / size for place in places]
    found = measure(snn, [TEXT])
    assert found.predictions == 10
    assert found.loss == pytest.approx(math.sqrt(mean(errors)), rel=1e-3)
    assert found.loss_interval == pytest.approx(half_of_interval(errors) / (2 * math.sqrt(mean(errors))), rel=1e-3)
    assert (found.perplexity_change, found.perplexity_interval) == (None, None)
