"""Dropout in training mode: from one seed both executions drop what the ANN does, in modules and attention."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_models import EXECUTIONS, Model, bert, convert_tiny, gpt2, llama, relative_error, token_ids
from torch import Tensor
from transformers import BertForSequenceClassification, OPTConfig, OPTForCausalLM

import las_sj


def opt() -> Model:
    """It drops by a function, not by modules."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 100, "hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 64}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64, "init_std": 0.2}
    return OPTForCausalLM(OPTConfig(**sizes, dropout=0.3, attention_dropout=0.2))


DROPPING: dict[str, Callable[[], Model]] = {
    "gpt2": lambda: gpt2(attn_pdrop=0.3, resid_pdrop=0.2, embd_pdrop=0.1),
    "attention alone": lambda: llama(attention_dropout=0.4),
    "bert": lambda: bert(
        BertForSequenceClassification, hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.2, classifier_dropout=0.5
    ),
    "opt": opt,
}


def trained_output(model: Model, **batch: Tensor) -> Tensor:
    torch.manual_seed(5)
    with torch.no_grad():
        output: Tensor = model.train()(**batch)[0]
    return output


@pytest.mark.parametrize("name", DROPPING)
@pytest.mark.parametrize("padded", [False, True])
def test_both_executions_drop_what_the_ann_drops(name: str, padded: bool) -> None:
    ann = DROPPING[name]().double().eval()
    snn = convert_tiny(ann, headroom=4.0)
    batch = {"input_ids": token_ids(16)}  # as many sequences as time steps: rows say nothing
    if padded:
        batch["attention_mask"] = torch.ones(16, 10, dtype=torch.long)
        batch["attention_mask"][1, 6:] = 0
    expected = trained_output(ann, **batch)
    with torch.no_grad():
        assert relative_error(expected, ann.eval()(**batch)[0]) > 0.1
    outputs = []
    for execution in EXECUTIONS:
        las_sj.set_execution(snn, execution)
        outputs.append(trained_output(snn, **batch))
        assert relative_error(outputs[-1], expected) < 5e-4
    assert relative_error(*outputs) < 1e-9
    torch.manual_seed(6)
    with torch.no_grad():
        assert relative_error(snn(**batch)[0], outputs[0]) > 0.1  # another seed


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
def test_checkpointed_layers_drop_the_same_again(reentrant: bool) -> None:
    snn = convert_tiny(DROPPING["gpt2"]().double())
    las_sj.set_execution(snn, "temporal")
    gradients = []
    for checkpointing in (False, True):
        model = copy.deepcopy(snn).train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
            model.enable_input_require_grads()
        torch.manual_seed(5)
        ids = token_ids()
        model(input_ids=ids, labels=ids).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        if float(gradient.norm()) > 1e-6:
            assert relative_error(gradients[1][name], gradient) < 1e-9, name


def test_nothing_is_dropped_in_evaluation() -> None:
    snn = convert_tiny(DROPPING["gpt2"]())
    for execution in EXECUTIONS:
        las_sj.set_execution(snn, execution)
        with torch.no_grad():
            assert torch.equal(*(snn(input_ids=token_ids())[0] for _ in range(2)))


def test_part_of_a_model_in_training() -> None:
    """Only the second layer drops."""
    ann = DROPPING["gpt2"]().double()
    snn, batch = convert_tiny(ann, headroom=4.0), {"input_ids": token_ids(16)}
    outputs = []
    for model, execution in ((ann, None), (snn, "accumulated"), (snn, "temporal")):
        if execution is not None:
            las_sj.set_execution(model, execution)
        model.eval()
        model.transformer.h[1].train()
        torch.manual_seed(5)
        with torch.no_grad():
            outputs.append(model(**batch)[0])
    assert relative_error(outputs[1], outputs[0]) < 5e-4
    assert relative_error(outputs[2], outputs[1]) < 1e-9
