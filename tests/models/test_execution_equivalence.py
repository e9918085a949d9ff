"""A converted model, with coding bypassed, is the ANN; its two executions are one network."""

import copy
from functools import cache
from typing import Any

import pytest
import torch
from tiny_models import (
    CAUSAL,
    EXECUTIONS,
    MODELS,
    Model,
    convert_tiny,
    padding_mask,
    relative_error,
    run,
    run_and_count,
    token_ids,
)
from torch import Tensor

from las_sj import set_execution
from las_sj.conversion.structure import bypassed_coding
from las_sj.models import named_sites

ACCURATE = 3e-4  # error against the ANN at T=16; up to 8e-5 was measured
SAME = 1e-9  # two executions in fp64
EXACT = 1e-10  # coding bypassed, in fp64
EXACT_NORM = 1e-6  # the same where the ANN's own norms compute in fp32: LlamaRMSNorm


@cache
def _pair(name: str) -> tuple[Model, Model]:
    ann = MODELS[name]()
    return ann, convert_tiny(ann)


@pytest.fixture(params=list(MODELS))
def pair(request: pytest.FixtureRequest) -> tuple[Model, Model]:
    """An ANN and its conversion."""
    return copy.deepcopy(_pair(request.param))


@pytest.fixture
def pair64(pair: tuple[Model, Model]) -> tuple[Model, Model]:
    return pair[0].double(), pair[1].double()


def real_tokens(output: Tensor, mask: Tensor | None) -> Tensor:
    """Without padding, where `output` has tokens: [B, S, C] or [B, C]."""
    return output if mask is None or output.dim() < 3 else output[mask.bool()]


def padded_batch(padding: str) -> dict[str, Tensor]:
    if padding == "none":
        return {"input_ids": token_ids()}
    mask = padding_mask(padding)
    return {"input_ids": token_ids() * mask, "attention_mask": mask}


def test_nothing_stays_analog(pair: tuple[Model, Model]) -> None:
    coverage = pair[1].las_coverage
    assert coverage.analog == {}
    linear = sum(count for kind, count in coverage.spiking.items() if kind in ("Linear", "Conv1D"))
    expected = [module for module in pair[0].modules() if type(module).__name__ in ("Linear", "Conv1D")]
    assert linear == len(expected)


@pytest.mark.parametrize("padding", ["none", "left", "right"])
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_bypassed_is_the_ann(pair64: tuple[Model, Model], execution: str, padding: str) -> None:
    ann, snn = pair64
    batch = padded_batch(padding)
    with bypassed_coding(snn), torch.no_grad():
        output, expected = run(snn, execution, **batch)[0], ann(**batch)[0]
    mask = batch.get("attention_mask")
    assert output.shape == expected.shape
    tolerance = EXACT_NORM if ann.config.model_type == "llama" else EXACT
    assert relative_error(real_tokens(output, mask), real_tokens(expected, mask)) < tolerance


@pytest.mark.parametrize("padding", ["none", "left", "right"])
def test_accumulated_is_close_to_the_ann(pair: tuple[Model, Model], padding: str) -> None:
    ann, snn = pair
    batch = padded_batch(padding)
    with torch.no_grad():
        expected = ann(**batch)[0]
    mask = batch.get("attention_mask")
    output = run(snn, "accumulated", **batch)[0]
    error = relative_error(real_tokens(output, mask), real_tokens(expected, mask))
    assert 0 < error < ACCURATE  # 0 would mean that nothing is coded


@pytest.mark.parametrize("padding", ["none", "left", "right"])
def test_temporal_is_accumulated(pair64: tuple[Model, Model], padding: str) -> None:
    snn = pair64[1]
    batch = padded_batch(padding)
    (temporal, spikes), (accumulated, expected) = (run_and_count(snn, name, **batch) for name in EXECUTIONS)
    mask = batch.get("attention_mask")
    assert relative_error(real_tokens(temporal[0], mask), real_tokens(accumulated[0], mask)) < SAME
    if padding == "left":
        # Rows of attention that see padding only hold scores of -1e9 + s, in which s has 7 digits left even in fp64.
        spikes, expected = (
            {name: n for name, n in counts.items() if _of_tokens(name)} for counts in (spikes, expected)
        )
    assert spikes == expected
    assert all(count > 0 for _, count in spikes.values())


def _of_tokens(name: str) -> bool:
    """Whether a site has one population per token, so that padding is not counted."""
    return "las_attention" not in name


@pytest.mark.parametrize("name", CAUSAL)
def test_temporal_is_accumulated_in_single_precision(name: str) -> None:
    """Summation order flips last digits, so only loosely: twice the error against the ANN, counts to 5e-3."""
    ann, snn = _pair(name)
    batch = padded_batch("right")
    mask = batch["attention_mask"]
    (temporal, spikes), (accumulated, expected) = (run_and_count(snn, execution, **batch) for execution in EXECUTIONS)
    with torch.no_grad():
        reference = real_tokens(ann(**batch)[0], mask)
    accumulated_logits = real_tokens(accumulated[0], mask)
    gap = relative_error(real_tokens(temporal[0], mask), accumulated_logits)
    assert gap < 2 * relative_error(accumulated_logits, reference)
    total, expected_total = (sum(count for _, count in counts.values()) for counts in (spikes, expected))
    assert total == pytest.approx(expected_total, rel=5e-3)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_content_of_padding_changes_nothing(pair64: tuple[Model, Model], execution: str, side: str) -> None:
    mask = padding_mask(side)
    ids = token_ids()
    other = torch.where(mask.bool(), ids, token_ids(seed=7))
    assert not torch.equal(ids, other)
    if pair64[0].config.model_type == "bert" and side == "left" and pair64[1](ids)[0].dim() < 3:
        pytest.skip("the classifier reads the first token, which is padding here")
    first, second = (
        real_tokens(run(pair64[1], execution, input_ids=tokens, attention_mask=mask)[0], mask)
        for tokens in (ids, other)
    )
    torch.testing.assert_close(first, second, rtol=0, atol=1e-12)


SHAPES = [(1, 1), (1, 7), (3, 1), (2, 4), (2, 8), (16, 2), (32, 1)]  # 4 heads, 8 per head, T = 16, 32 hidden


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(pair64: tuple[Model, Model], shape: tuple[int, int]) -> None:
    """Batches and lengths that equal other sizes of the network must not be taken for them."""
    ann, snn = pair64
    batch = {"input_ids": token_ids(*shape), "attention_mask": torch.ones(shape, dtype=torch.long)}
    temporal, accumulated = (run(snn, execution, **batch)[0] for execution in EXECUTIONS)
    with torch.no_grad():
        expected = ann(**batch)[0]
    assert temporal.shape == accumulated.shape == expected.shape
    assert relative_error(temporal, accumulated) < SAME
    assert relative_error(accumulated, expected) < ACCURATE


@pytest.mark.parametrize("execution", EXECUTIONS)
class TestWaysToCall:
    """Every way to hand over the inputs, and to get the outputs, gives the same values."""

    def test_positional(self, pair: tuple[Model, Model], execution: str) -> None:
        snn, ids, mask = pair[1], token_ids(), padding_mask("right")
        expected = run(snn, execution, input_ids=ids, attention_mask=mask)[0]
        between = () if snn.config.model_type != "gpt2" else (None,)  # past_key_values
        with torch.no_grad():
            output = snn(ids, *between, mask)[0]
        assert torch.equal(output, expected)

    def test_tuple(self, pair: tuple[Model, Model], execution: str) -> None:
        snn, ids = pair[1], token_ids()
        output = run(snn, execution, input_ids=ids, return_dict=False)
        assert isinstance(output, tuple)
        assert torch.equal(output[0], run(snn, execution, input_ids=ids)[0])

    def test_inputs_embeds(self, pair: tuple[Model, Model], execution: str) -> None:
        ann, snn = pair
        with torch.no_grad():
            embedded = ann.get_input_embeddings()(token_ids())
        output = run(snn, execution, inputs_embeds=embedded)[0]
        expected = run(snn, execution, input_ids=token_ids())[0]
        assert output.shape == expected.shape
        assert relative_error(output, expected) < ACCURATE  # rows / T and values / T differ in last digits

    @pytest.mark.parametrize("rows", [1, 3])
    def test_position_ids(self, pair: tuple[Model, Model], execution: str, rows: int) -> None:
        ann, snn = pair
        batch = {"input_ids": token_ids(), "position_ids": torch.arange(5, 15).expand(rows, -1)}
        with torch.no_grad():
            expected = ann(**batch)[0]
        assert relative_error(run(snn, execution, **batch)[0], expected) < ACCURATE

    def test_packed_sequences(self, pair: tuple[Model, Model], execution: str) -> None:
        """Without a cache, transformers takes positions that start again for another sequence."""
        ann, snn = pair
        if ann.config.model_type == "bert":
            pytest.skip("knows no packed sequences")
        positions = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 1, 2, 3]]).expand(3, -1)
        batch: dict[str, Any] = {"input_ids": token_ids(), "position_ids": positions, "use_cache": False}
        with torch.no_grad():
            expected = ann(**batch)[0]
        output = run(snn, execution, **batch)[0]
        assert relative_error(output, expected) < ACCURATE
        second = run(snn, execution, input_ids=token_ids()[:, 6:])[0]
        assert relative_error(output[:, 6:], second) < ACCURATE

    def test_four_dimensional_mask(self, pair: tuple[Model, Model], execution: str) -> None:
        ann, snn = pair
        hidden = torch.triu(torch.ones(10, 10, dtype=torch.bool), 3)
        mask = torch.zeros(10, 10).masked_fill(hidden, torch.finfo(torch.float32).min).expand(3, 1, 10, 10)
        with torch.no_grad():
            expected, without = ann(token_ids(), attention_mask=mask)[0], ann(token_ids())[0]
        assert relative_error(without, expected) > 1e-2
        assert relative_error(run(snn, execution, input_ids=token_ids(), attention_mask=mask)[0], expected) < ACCURATE

    def test_hidden_states(self, pair: tuple[Model, Model], execution: str) -> None:
        ann, snn = pair
        batch: dict[str, Any] = {"input_ids": token_ids(), "output_hidden_states": True}
        with torch.no_grad():
            expected = ann(**batch).hidden_states
        states = run(snn, execution, **batch).hidden_states
        assert len(states) == len(expected) == 3
        for state, reference in zip(states, expected, strict=True):
            assert state.shape == reference.shape
            assert relative_error(state, reference) < ACCURATE

    def test_inner_model(self, pair: tuple[Model, Model], execution: str) -> None:
        """The model inside a model with a head can be called by itself."""
        ann, snn = pair
        if ann.base_model is ann:
            pytest.skip("has no head")
        las_state = run(snn, execution, input_ids=token_ids())
        with torch.no_grad():
            output, expected = snn.base_model(token_ids())[0], ann.base_model(token_ids())[0]
        assert las_state[0].shape[0] == 3
        assert output.shape == expected.shape
        assert relative_error(output, expected) < ACCURATE


def test_token_types() -> None:
    ann, snn = _pair("bert")
    batch = {"input_ids": token_ids(), "token_type_ids": torch.tensor([[0] * 4 + [1] * 6] * 3)}
    with torch.no_grad():
        expected = ann(**batch)[0]
    for execution in EXECUTIONS:
        assert relative_error(run(snn, execution, **batch)[0], expected) < ACCURATE


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_logits_of_the_last_token_only(name: str, execution: str) -> None:
    snn = _pair(name)[1]
    last = run(snn, execution, input_ids=token_ids(), logits_to_keep=1).logits
    whole = run(snn, execution, input_ids=token_ids()).logits
    torch.testing.assert_close(last, whole[:, -1:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_generate(name: str, beams: int) -> None:
    ann, snn = _pair(name)
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "num_beams": beams, "pad_token_id": 0}
    batch = {"input_ids": token_ids(2, 5), "attention_mask": torch.ones(2, 5, dtype=torch.long)}
    expected = ann.generate(**batch, **options)
    for execution, use_cache in (("accumulated", True), ("accumulated", False), ("temporal", False)):
        las_options = {**options, "use_cache": use_cache}
        set_execution(snn, execution)
        assert torch.equal(snn.generate(**batch, **las_options), expected), (execution, use_cache)


def test_sites_are_named_once(pair: tuple[Model, Model]) -> None:
    sites = list(named_sites(pair[1]))
    assert len({name for name, _ in sites}) == len({id(site.node) for _, site in sites}) == len(sites) > 20
