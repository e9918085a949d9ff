"""`labels` in both executions, and gradients."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_models import EXECUTIONS, MODELS, Model, bert, convert_tiny, gpt2, llama, padding_mask, run, token_ids
from torch import Tensor
from transformers import (
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForTokenClassification,
    GPT2ForQuestionAnswering,
    GPT2ForSequenceClassification,
    GPT2ForTokenClassification,
    LlamaForQuestionAnswering,
    LlamaForSequenceClassification,
    PreTrainedModel,
)

import las_sj
from las_sj.models import named_sites
from las_sj.neurons import HGNode

CLASSES = torch.tensor([1, 0, 2])
SENTENCES = torch.tensor([1, 0, 1])
SPAN = {"start_positions": torch.tensor([1, 2, 3]), "end_positions": torch.tensor([4, 5, 9])}
TAGS = token_ids(seed=5) % 3

LOSSES: dict[str, tuple[Callable[[], PreTrainedModel], dict[str, Tensor]]] = {
    "causal LM, GPT-2": (gpt2, {"labels": token_ids()}),
    "causal LM, Llama": (llama, {"labels": token_ids()}),
    "masked LM": (MODELS["bert-masked-lm"], {"labels": token_ids(seed=2)}),
    "sequences": (MODELS["bert-classifier"], {"labels": CLASSES}),
    "regression": (lambda: bert(type(MODELS["bert-classifier"]()), num_labels=1), {"labels": CLASSES.float()}),
    "tokens, BERT": (lambda: bert(BertForTokenClassification, num_labels=3), {"labels": TAGS}),
    "tokens, GPT-2": (lambda: gpt2(GPT2ForTokenClassification, num_labels=3), {"labels": TAGS}),
    "spans, BERT": (lambda: bert(BertForQuestionAnswering), SPAN),
    "spans, GPT-2": (lambda: gpt2(GPT2ForQuestionAnswering), SPAN),
    "spans, Llama": (lambda: llama(LlamaForQuestionAnswering), SPAN),
    "next sentence": (lambda: bert(BertForNextSentencePrediction), {"labels": SENTENCES}),
    "pre-training": (lambda: bert(BertForPreTraining), {"labels": token_ids(), "next_sentence_label": SENTENCES}),
}


@pytest.mark.parametrize("task", list(LOSSES))
def test_loss_is_that_of_the_ann(task: str) -> None:
    build, targets = LOSSES[task]
    ann = build()
    snn = convert_tiny(ann)
    batch: dict[str, Any] = {"input_ids": token_ids(), "attention_mask": padding_mask("right"), **targets}
    with torch.no_grad():
        expected = ann(**batch).loss
    for execution in EXECUTIONS:
        torch.testing.assert_close(run(snn, execution, **batch).loss, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("labels", [CLASSES, CLASSES.float(), torch.eye(3)], ids=["classes", "regression", "several"])
@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("build", [gpt2, llama])
def test_loss_of_a_decoder_that_classifies(build: Callable[..., Model], execution: str, labels: Tensor) -> None:
    """Its score layer works on every token, and the token is picked by batch index: the loss comes after the sum."""
    kind = GPT2ForSequenceClassification if build is gpt2 else LlamaForSequenceClassification
    ann = build(kind, num_labels=1 if labels.dim() == 1 and labels.is_floating_point() else 3, pad_token_id=0)
    snn = convert_tiny(ann)
    with torch.no_grad():
        expected = ann(token_ids(), labels=labels)
    output = run(snn, execution, input_ids=token_ids(), labels=labels)
    torch.testing.assert_close(output.loss, expected.loss, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(output.logits, expected.logits, rtol=1e-2, atol=1e-3)
    loss, logits = run(snn, execution, input_ids=token_ids(), labels=labels, return_dict=False)[:2]
    assert torch.equal(loss, output.loss)
    assert torch.equal(logits, output.logits)
    assert next(iter(output)) == "loss"


def gradients(model: PreTrainedModel, execution: str | None, **batch: Any) -> dict[str, Tensor]:
    if execution is not None:
        las_sj.set_execution(model, execution)
    model.zero_grad()
    model(**batch).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def cosine(first: Tensor, second: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(first.flatten(), second.flatten(), dim=0))


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", ["bert-masked-lm", "gpt2", "llama"])
def test_gradients_of_weights(name: str, execution: str) -> None:
    """Straight-through: in the direction of the ANN's."""
    ann = MODELS[name]()
    snn = convert_tiny(ann)
    batch = {"input_ids": token_ids(), "attention_mask": padding_mask("right"), "labels": token_ids(seed=2)}
    expected, gradient = gradients(ann, None, **batch), gradients(snn, execution, **batch)
    assert gradient.keys() == expected.keys()
    assert all(torch.isfinite(value).all() for value in gradient.values())
    whole, reference = (torch.cat([g[key].flatten() for key in expected]) for g in (gradient, expected))
    assert cosine(whole, reference) > 0.99
    for key, value in expected.items():
        if float(value.norm()) > 1e-3 * float(reference.norm()):
            assert cosine(gradient[key], value) > 0.9, key


@pytest.mark.parametrize("name", ["bert-masked-lm", "gpt2", "llama"])
def test_gradients_of_thresholds(name: str) -> None:
    snn = convert_tiny(MODELS[name](), time_steps=8)
    thresholds = {
        f"{site_name}.{key}": parameter
        for site_name, site in named_sites(snn)
        if not isinstance(site.node, HGNode)
        for key, parameter in site.node.named_parameters()
    }
    assert all(not parameter.requires_grad for parameter in thresholds.values())
    for parameter in thresholds.values():
        parameter.requires_grad_()
    found = gradients(snn, "accumulated", input_ids=token_ids(), labels=token_ids(seed=2))
    assert thresholds.keys() <= found.keys()
    assert all(torch.isfinite(found[key]).all() for key in thresholds)
    normal = [key for key in thresholds if key.endswith("theta_normal")]
    assert sum(bool(found[key]) for key in normal) > 0.9 * len(normal)


def test_a_step_of_training_lowers_the_loss() -> None:
    snn = convert_tiny(gpt2())
    las_sj.set_execution(snn, "accumulated")
    batch = {"input_ids": token_ids(), "labels": token_ids()}
    optimizer = torch.optim.SGD([p for p in snn.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = snn(**batch).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.05
