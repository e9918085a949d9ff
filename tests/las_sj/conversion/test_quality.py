"""The comparison of a converted model with its original, against the same numbers by hand."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_models import MODELS, convert_tiny, padding_mask, run, token_ids

import las_sj
from las_sj.conversion.quality import compare
from las_sj.data.text import is_language_model

BATCHES: list[dict[str, Any]] = [
    {"input_ids": token_ids()},
    {"input_ids": token_ids(seed=9), "attention_mask": padding_mask("right")},
    {"input_ids": token_ids(seed=8), "attention_mask": padding_mask("left")},
]


def by_hand(model: Any, batches: list[dict[str, Any]]) -> torch.Tensor:
    """Log-probabilities [N, V] at every position that is followed by a token, in order."""
    rows = []
    for batch in batches:
        logits = run_any(model, batch).double()
        for row, ids in enumerate(batch["input_ids"]):
            mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))[row]
            for position in range(len(ids) - 1):
                if mask[position] and mask[position + 1]:
                    rows.append(F.log_softmax(logits[row, position], -1))
    return torch.stack(rows)


def followers(batches: list[dict[str, Any]]) -> torch.Tensor:
    tokens = []
    for batch in batches:
        for row, ids in enumerate(batch["input_ids"]):
            mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))[row]
            tokens += [ids[i + 1] for i in range(len(ids) - 1) if mask[i] and mask[i + 1]]
    return torch.stack(tokens)


@torch.no_grad()
def run_any(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    return model(**batch)[0]


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("execution", ["accumulated", "temporal"])
def test_language_model(name: str, execution: str) -> None:
    ann = MODELS[name]()
    snn = convert_tiny(ann, time_steps=6)  # an error that shows
    las_sj.set_execution(snn, execution)
    quality, _ = compare(ann, snn, BATCHES)
    expected, found, targets = by_hand(ann, BATCHES), by_hand(snn, BATCHES), followers(BATCHES)
    assert quality.tokens == len(targets) == 3 * 9 + 2 * (9 + 6 + 3)
    assert quality.ann_perplexity == pytest.approx(math.exp(F.nll_loss(expected, targets)), rel=1e-6)
    assert quality.snn_perplexity == pytest.approx(math.exp(F.nll_loss(found, targets)), rel=1e-6)
    kl = (expected.exp() * (expected - found)).sum(-1).mean()
    assert quality.kl == pytest.approx(float(kl), rel=1e-5)
    assert quality.kl is not None
    assert quality.kl > 1e-6
    agreement = (expected.argmax(-1) == found.argmax(-1)).double().mean()
    assert quality.top1_agreement == pytest.approx(float(agreement))


@pytest.mark.parametrize("name", ["bert", "bert-masked-lm", "bert-classifier", "gpt2"])
def test_relative_error(name: str) -> None:
    ann = MODELS[name]()
    snn = convert_tiny(ann, time_steps=6)
    quality, _ = compare(ann, snn, BATCHES[1:2])
    mask = BATCHES[1]["attention_mask"].bool()
    expected, found = (run_any(model, BATCHES[1]).double() for model in (ann, snn))
    if expected.dim() == 3:
        expected, found = expected[mask], found[mask]
    assert quality.relative_error == pytest.approx(float((found - expected).norm() / expected.norm()), rel=1e-5)
    assert quality.relative_error > 1e-3
    assert (quality.kl is None) == (name != "gpt2")


def test_a_model_compared_with_itself() -> None:
    snn = convert_tiny(MODELS["gpt2"]())
    quality, monitor = compare(snn, snn, BATCHES)
    # One of the two is monitored, so that its layers do not run as one kernel.
    assert quality.kl is not None
    assert quality.kl < 1e-8
    assert quality.relative_error < 1e-4
    assert quality.top1_agreement == 1
    assert quality.ann_perplexity == pytest.approx(quality.snn_perplexity, rel=1e-5)
    assert monitor.spikes_per_neuron > 0


def test_to_dict() -> None:
    ann = MODELS["gpt2"]()
    entry = compare(ann, convert_tiny(ann), BATCHES[:1])[0].to_dict()
    assert set(entry) == {"tokens", "predicts", "ann", "snn", "kl", "top1_agreement", "relative_error"}
    assert entry["predicts"] == "token"
    assert entry["ann"]["perplexity"] != entry["snn"]["perplexity"]


@pytest.mark.parametrize(("name", "expected"), [("gpt2", True), ("llama", True), ("bert", False)])
def test_is_language_model(name: str, expected: bool) -> None:
    assert is_language_model(MODELS[name]()) == expected
    snn = convert_tiny(MODELS[name]())
    assert is_language_model(snn) == expected
    assert run(snn, "accumulated", input_ids=token_ids())[0].shape[:2] == (3, 10)
