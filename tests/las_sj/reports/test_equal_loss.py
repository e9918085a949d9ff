"""The quantised ANN that a converted model is compared with."""

import copy

import pytest
import torch
from tiny_models import MODELS, convert_tiny, relative_error, run, token_ids
from torch import Tensor

import las_sj
from las_sj.models import execution_of, named_sites
from las_sj.reports.equal_loss import fewest_bits, quantised_ann

BATCHES = [{"input_ids": token_ids(seed=seed)} for seed in (1, 2)]


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_unquantised_it_is_the_ann(name: str) -> None:
    ann = MODELS[name]()
    snn = convert_tiny(copy.deepcopy(ann), time_steps=4)
    las_sj.set_execution(snn, "accumulated")
    with torch.no_grad(), quantised_ann(snn, None):
        assert relative_error(snn(**BATCHES[0])[0], ann(**BATCHES[0])[0]) < 1e-5


@torch.no_grad()
def test_rounding_by_hand() -> None:
    """At 3 bits the input of a projection takes 7 values, one scale a token."""
    snn = convert_tiny(MODELS["bert"](), time_steps=4)
    las_sj.set_execution(snn, "accumulated")
    seen: list[Tensor] = []
    module = snn.encoder.layer[0].intermediate.dense
    with quantised_ann(snn, 3):
        hook = module.input_node.register_forward_hook(lambda m, args, values: seen.extend((args[0], values)))
        snn(**BATCHES[0])
    hook.remove()
    exact, rounded = seen
    scale = exact.abs().amax(-1, keepdim=True) / 3
    assert torch.equal(rounded, (exact / scale).round() * scale)
    assert max(len(row.unique()) for row in rounded.flatten(0, 1)) <= 7


@torch.no_grad()
def test_more_bits_lose_less() -> None:
    snn = convert_tiny(MODELS["llama"](), time_steps=4)
    las_sj.set_execution(snn, "accumulated")
    with quantised_ann(snn, None):
        exact = snn(**BATCHES[0])[0]
    errors = []
    for bits in (3, 6, 9, 12, 15):
        with quantised_ann(snn, bits):
            errors.append(relative_error(snn(**BATCHES[0])[0], exact))
    assert errors == sorted(errors, reverse=True)


def test_fewest_bits_is_the_border() -> None:
    for time_steps, least in ((6, 4), (14, 11)):
        snn = convert_tiny(MODELS["bert"](), time_steps=time_steps)
        ann_error = relative_error(run(snn, "accumulated", **BATCHES[0])[0], run_exact(snn))
        las_sj.set_execution(snn, "temporal")
        bits = fewest_bits(snn, BATCHES[:1])
        assert bits is not None
        assert least <= bits <= time_steps + 4
        assert quantised_error(snn, bits) <= ann_error < quantised_error(snn, bits - 1)
        las_sj.set_execution(snn, "temporal")


@torch.no_grad()
def run_exact(snn: torch.nn.Module) -> Tensor:
    with quantised_ann(snn, None):
        return snn(**BATCHES[0])[0]


@torch.no_grad()
def quantised_error(snn: torch.nn.Module, bits: int) -> float:
    las_sj.set_execution(snn, "accumulated")
    exact = run_exact(snn)
    with quantised_ann(snn, bits):
        return relative_error(snn(**BATCHES[0])[0], exact)


def test_nothing_is_left_behind() -> None:
    snn = convert_tiny(MODELS["gpt2"](), time_steps=6)
    before = run(snn, "temporal", **BATCHES[0])[0]
    fewest_bits(snn, BATCHES)
    assert execution_of(snn).step_mode == "m"
    assert not any(site.node.bypass or site.node._forward_hooks for _, site in named_sites(snn))
    assert torch.equal(run(snn, "temporal", **BATCHES[0])[0], before)
