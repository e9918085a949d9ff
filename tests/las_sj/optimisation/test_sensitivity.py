"""Sensitivities, against what errors really do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from tiny_models import bert, gpt2, llama, token_ids
from torch import Tensor, nn
from transformers import BertForSequenceClassification, PreTrainedModel

import las_sj
from las_sj.conversion.structure import bypassed_coding
from las_sj.models import running
from las_sj.neurons.thresholds import bin_centres
from las_sj.optimisation.divergence import divergences, predicts, rows_of, scores_of
from las_sj.optimisation.errors import OptimisationError
from las_sj.optimisation.sensitivity import coding_sites, gather

MAKERS: dict[str, Callable[[], Any]] = {
    "llama": lambda: llama(num_hidden_layers=1),
    "bert": lambda: bert(num_hidden_layers=1),
    "classifier": lambda: bert(BertForSequenceClassification, num_hidden_layers=1, num_labels=3),
    "regression": lambda: bert(
        BertForSequenceClassification, num_hidden_layers=1, num_labels=1, problem_type="regression"
    ),
}
REPEATS = 60
SIZE = 3e-3  # of the errors, relative to what they are added to


def batches(repeats: int = 1) -> list[dict[str, Tensor]]:
    """Each row so many times: errors and labels are random, and rows have their own."""
    ids = token_ids(3, 12)
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    return [{"input_ids": ids.repeat(repeats, 1), "attention_mask": mask.repeat(repeats, 1)}]


@contextmanager
def errors_at(node: nn.Module, generator: torch.Generator) -> Iterator[None]:
    def add(node: nn.Module, args: Any, output: Tensor) -> Tensor:
        return output + SIZE * output * (torch.randint(0, 2, output.shape, generator=generator) * 2 - 1)

    handle = node.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def caused(model: PreTrainedModel, node: nn.Module) -> float:
    """The mean divergence that random errors at one population cause."""
    batch = batches(REPEATS)[0]
    with running(model, "accumulated"), bypassed_coding(model):
        exact = rows_of(batch, model(**batch)[0])
        with errors_at(node, torch.Generator().manual_seed(1)):
            found = rows_of(batch, model(**batch)[0])
    return float(divergences(exact, found, predicts(model)).mean())


@pytest.mark.parametrize("name", MAKERS)
def test_they_predict_what_errors_cause(name: str) -> None:
    model = las_sj.convert(MAKERS[name](), las_sj.LASConfig(time_steps=8, levels=1), batches())
    found = gather(model, batches(REPEATS))
    sites = coding_sites(model)
    for site in [*sites][:: max(1, len(sites) // 3)]:
        seen = found.sites[site]
        occupied = seen.counts > 0
        predicted = SIZE**2 * float(seen.weights[occupied] @ bin_centres()[occupied].square())
        assert predicted == pytest.approx(caused(model, sites[site].node), rel=0.35, abs=1e-12), site


def test_padding_counts_nowhere() -> None:
    model = las_sj.convert(bert(), las_sj.LASConfig(time_steps=8), batches())
    ids = token_ids(1, 8)
    padded = {"input_ids": torch.cat([ids, ids], 1), "attention_mask": torch.cat([torch.ones_like(ids), ids * 0], 1)}
    alone, with_padding = gather(model, [{"input_ids": ids}]), gather(model, [padded])
    site = next(name for name in alone.sites if name.endswith("intermediate.dense.input_node"))
    assert alone.predictions == with_padding.predictions == 8
    assert int(alone.sites[site].counts.sum()) == int(with_padding.sites[site].counts.sum()) == 8 * 32


def test_nothing_is_left_behind() -> None:
    model = las_sj.convert(gpt2(), las_sj.LASConfig(time_steps=8), batches())
    before = model(**batches()[0]).logits
    gather(model, batches())
    for name, site in coding_sites(model).items():
        assert not site.node._forward_hooks, name
        assert isinstance(site.node.v, float), name
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(model(**batches()[0]).logits, before)


def test_no_data() -> None:
    model = las_sj.convert(gpt2(), las_sj.LASConfig(time_steps=8), batches())
    with pytest.raises(OptimisationError, match="no calibration data"):
        gather(model, [])


def test_scores_of_few_classes_are_exact() -> None:
    logits = torch.randn(5, 3, requires_grad=True, generator=torch.Generator().manual_seed(0))
    found = torch.zeros(5, 3)
    for score in scores_of(logits, True, torch.Generator(), independent=True):
        found += torch.autograd.grad(score, logits, retain_graph=True)[0].square()
    shares = logits.detach().softmax(-1)
    assert torch.allclose(found, shares * (1 - shares) / 2, atol=1e-6)  # half of the Fisher information's diagonal


def test_divergences() -> None:
    ann, snn = torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([[0.0, 1.5], [2.0, 0.0]])
    p, q = ann.double().softmax(-1), snn.double().softmax(-1)
    assert divergences(ann, snn, True).tolist() == pytest.approx(((p * (p / q).log()).sum(-1)).tolist())
    assert divergences(ann, snn, False).tolist() == pytest.approx([0.25 / 2.5, 0.0])
