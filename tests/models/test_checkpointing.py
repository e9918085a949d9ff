"""Gradient checkpointing computes layers again in backward, after their call: they must find it."""

import copy
import gc
import weakref
from typing import Any

import pytest
import torch
from tiny_models import EXECUTIONS, MODELS, Model, convert_tiny, token_ids
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import las_sj
from las_sj.analysis import SpikeMonitor

pytestmark = pytest.mark.filterwarnings(
    "ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning", "ignore:.*use_cache.*"
)
NAMES = ("gpt2", "llama", "bert-masked-lm")


def gradients(model: Model) -> dict[str, Tensor]:
    """Of a loss over fixed tokens, by parameter."""
    model.zero_grad()
    ids = token_ids()
    model(input_ids=ids, labels=ids).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def trained(snn: Model, execution: str, **checkpointing: Any) -> Model:
    """A copy in training mode, without dropout, so that both runs are of the same network."""
    model = copy.deepcopy(snn).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    las_sj.set_execution(model, execution)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=checkpointing)
    if checkpointing.get("use_reentrant"):
        model.enable_input_require_grads()
    return model


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_without_checkpointing(name: str, execution: str, reentrant: bool) -> None:
    snn = convert_tiny(MODELS[name]().double())  # in fp32 last digits flip spikes: other kernels run without a gradient
    expected = gradients(trained(snn, execution))
    found = gradients(trained(snn, execution, use_reentrant=reentrant))
    assert len(expected) > 10
    assert found.keys() == expected.keys()
    least = 1e-6 * max(
        float(gradient.norm()) for gradient in expected.values()
    )  # biases of keys have none but rounding
    for parameter, gradient in expected.items():
        difference = float((found[parameter] - gradient).norm())
        assert difference < 1e-9 * max(float(gradient.norm()), least), parameter


def test_windows_computed_again_are_not_counted_again() -> None:
    snn = convert_tiny(MODELS["llama"]())
    counts = []
    for checkpointing in ({}, {"use_reentrant": False}):
        model = trained(snn, "accumulated", **checkpointing)
        with SpikeMonitor(model) as monitor:
            gradients(model)
        counts.append({name: (site.neurons, site.spikes) for name, site in monitor.sites.items()})
    assert counts[0] == counts[1]


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_that_nobody_knows_is_refused(reentrant: bool) -> None:
    """Layers computed again outside of a call would take currents for accumulated values."""
    model = trained(convert_tiny(MODELS["llama"]()), "temporal")
    model.enable_input_require_grads()
    layer = model.model.layers[0].self_attn.o_proj
    forward = type(layer).forward
    layer.__dict__["forward"] = lambda x: checkpoint(forward, layer, x, use_reentrant=reentrant)
    with pytest.raises(RuntimeError, match="gradient_checkpointing_enable"):
        gradients(model)


def test_copies_keep_their_own_execution() -> None:
    """A checkpointing function is asked for at each call, not when it was set."""
    snn = trained(convert_tiny(MODELS["llama"]()), "temporal", use_reentrant=False)
    clone = copy.deepcopy(snn)
    las_sj.set_execution(clone, "accumulated")
    accumulated, temporal = gradients(clone), gradients(snn)
    assert all(torch.isfinite(gradient).all() for gradient in accumulated.values())
    assert accumulated.keys() == temporal.keys()


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_outputs_are_freed_where_backward_never_runs(execution: str, reentrant: bool) -> None:
    """The graph keeps the call, which must not keep the output and so the graph: no collector sees that circle."""
    model = trained(convert_tiny(MODELS["llama"]()), execution, use_reentrant=reentrant)
    output = model(input_ids=token_ids()).logits
    assert output.requires_grad
    freed = weakref.ref(output)
    del output
    gc.collect()
    assert freed() is None
