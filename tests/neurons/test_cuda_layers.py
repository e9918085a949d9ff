"""Whole layers as a GPU runs them, emulated: bit for bit what a processor computes, in fp32 and fp64.

In half precision they are what a processor computes in fp32, rounded once.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import emulated_gpu
import pytest
import torch
from extreme_inputs import draw, same
from torch import Tensor

from las_sj.neurons import HGNode, OATNode, WindowNode, fused
from las_sj.neurons.kernels import cuda, cuda_driver, cuda_layers, host

pytestmark = pytest.mark.skipif(host.load() is None, reason="no C++ compiler")

CODES: dict[str, dict[str, Any]] = {
    "usual": {"time_steps": 16, "levels": 15},
    "one level": {"time_steps": 11, "levels": 1},
    "floor": {"time_steps": 11, "levels": 1, "rounding": "floor"},
    "two spikes": {"time_steps": 9, "levels": 15, "max_spikes": 2},
    "many steps": {"time_steps": 24, "levels": 3},
}
LONG = 1e5  # larger values overflow in half precision

Call = Callable[..., Tensor | None]
CASES = [
    *(("usual", dtype) for dtype in cuda.DTYPES),
    ("one level", torch.float32),
    ("floor", torch.bfloat16),
    ("two spikes", torch.float64),
    ("two spikes", torch.float16),
    ("many steps", torch.float32),
]
each_case = pytest.mark.parametrize(("code", "dtype"), CASES, ids=lambda value: str(value).removeprefix("torch."))
each_execution = pytest.mark.parametrize("as_train", [False, True], ids=["sums", "trains"])


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[cuda_driver.Launch]:
    """What was launched so far."""
    emulated_gpu.instead_of_a_gpu(monkeypatch)
    launches: list[cuda_driver.Launch] = []
    run = cuda._launch

    def noted(what: cuda_driver.Launch, device: torch.device) -> None:
        launches.append(what)
        run(what, device)

    monkeypatch.setattr(cuda, "_launch", noted)
    return launches


def oats(count: int, code: str, as_train: bool) -> Iterator[OATNode]:
    mode = "m" if as_train else "s"
    for index in range(count):
        yield OATNode(1.7 + 0.1234 * index, 20.3 + 1.2345 * index, step_mode=mode, **CODES[code])


def hgs(code: str, as_train: bool, *functions: str) -> Iterator[HGNode]:
    for function in functions:
        node = HGNode(function, CODES[code]["time_steps"], step_mode="m" if as_train else "s")
        if function == "silu":
            node.set_range(-30.0, 40.0)
        yield node


def run_on(kernels: Any, nodes: Sequence[WindowNode], call: Call, inputs: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """The output, and how many inputs of each population were out of range."""
    for node in nodes:
        node.reset_counts()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "kernels_for", lambda backend, x: kernels)
        y = call(*inputs)
    assert y is not None
    return y, [int(node.out_of_range) for node in nodes]


def assert_same(nodes: Sequence[WindowNode], call: Call, inputs: Sequence[Tensor | None], dtype: torch.dtype) -> None:
    given = [None if x is None else x.to(dtype) for x in inputs]
    real = torch.promote_types(dtype, torch.float32)
    expected, beyond = run_on(host, nodes, call, [None if x is None else x.to(real) for x in given])
    found, found_beyond = run_on(cuda, nodes, call, given)
    assert same(found, expected.to(dtype))
    assert found_beyond == beyond


def extreme(steps: int, rows: int, channels: int) -> Tensor:
    """Rows of any values, of small ones, of one large one, of zeros."""
    x = draw(steps * rows * channels, channels, torch.float32, 60.0).view(steps, rows, channels)
    x[:, 1:] = torch.where(x[:, 1:].abs() < LONG, x[:, 1:], 1.0)
    x[:, 2] *= 1e-3
    x[:, 3, -1] = 1e4
    x[:, 4] = 0
    return x


@each_case
@each_execution
@pytest.mark.parametrize(("channels", "steps"), [(1, 1), (77, 3), (1032, 1)])
def test_norms(
    channels: int, steps: int, as_train: bool, dtype: torch.dtype, code: str, launched: list[cuda_driver.Launch]
) -> None:
    """RMSNorm and LayerNorm, with gains and without."""
    first, second, third = oats(3, code, as_train)
    second.theta_normal.data.fill_(0.9)
    square, rsqrt = hgs(code, as_train, "square", "rsqrt")
    nodes = (first, square, rsqrt, second, third)
    generator = torch.Generator().manual_seed(channels)
    gains, bias = torch.randn(2, channels, generator=generator)
    for x in (torch.randn(steps, 5, channels, generator=generator) * 2, extreme(steps, 5, channels)):
        for centres, ends in ((False, (gains, None)), (True, (gains, bias)), (True, (None, None))):
            assert_same(
                nodes,
                lambda x, *ends, centres=centres: fused.norm(  # type: ignore[misc]
                    nodes, x, *ends, 1e-5, centres=centres, as_train=as_train
                ),
                (x, *ends),
                dtype,
            )
    quick = code == "usual" and dtype != torch.float64
    assert all(("quick" if quick else "any") in what.kernel for what in launched)
    assert len(launched) == 6


MASKS: dict[str, Callable[[int], Tensor | None]] = {
    "none": lambda keys: None,
    "causal": lambda keys: causal(keys, -6e4).expand(2, 1, 7, keys),
    "window": lambda keys: causal(keys, -torch.inf) + causal(keys, -torch.inf).flip(-1, -2),
}


def causal(keys: int, least: float) -> Tensor:
    """Row q of 7 sees the first (q + 1)/7 of the keys."""
    return torch.where(torch.arange(keys) > torch.arange(7)[:, None] * keys // 7, least, 0.0)


@each_case
@each_execution
@pytest.mark.parametrize(("mask", "held"), [*((mask, True) for mask in MASKS), ("causal", False)])
def test_softmax(
    mask: str,
    held: bool,
    as_train: bool,
    dtype: torch.dtype,
    code: str,
    launched: list[cuda_driver.Launch],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With rows in shared memory, and where they are too long for it."""
    first, second, third = oats(3, code, as_train)
    exponential, reciprocal = hgs(code, as_train, "exp", "reciprocal")
    nodes = (exponential, first, reciprocal, second, third)
    if not held:
        facts = cuda_driver.Facts(1, (100 << 10) if dtype != torch.float64 else (4 << 10))
        monkeypatch.setattr(cuda, "_facts", lambda device: facts)
    for keys, steps in ((1, 1), (33, 2)) if held else ((1100, 1),):
        x = torch.randn(steps, 2, 3, 7, keys, generator=torch.Generator().manual_seed(keys)) * 3
        for seen in (x, with_extremes(x)) if keys > 1 else (x,):
            assert_same(
                nodes,
                lambda x, added: fused.softmax(nodes, x, added, as_train=as_train),
                (seen, MASKS[mask](keys)),
                dtype,
            )
    assert all(("held" if held else "again") in what.kernel for what in launched)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("code", ["usual", "two spikes"])
def test_a_softmax_of_single_precision_emits_sums_in_half(
    dtype: torch.dtype, code: str, launched: list[cuda_driver.Launch]
) -> None:
    """As rounded afterwards; trains stay in single precision."""
    x = with_extremes(torch.randn(1, 2, 3, 7, 33, generator=torch.Generator().manual_seed(1)) * 3)
    for as_train in (False, True):
        first, second, third = oats(3, code, as_train)
        exponential, reciprocal = hgs(code, as_train, "exp", "reciprocal")
        call = partial(fused.softmax, (exponential, first, reciprocal, second, third), as_train=as_train)
        plain = run_on(cuda, [first], call, (x, None))[0]
        narrow = run_on(cuda, [first], partial(call, dtype=dtype), (x, None))[0]
        assert narrow.dtype == (torch.float32 if as_train else dtype)
        assert same(narrow, plain.to(narrow.dtype))
    assert launched


def with_extremes(x: Tensor) -> Tensor:
    """Rows with NaN in the first place and in another one, with infinities, and of nothing else."""
    x = x.clone()
    x[0, 0, 0, 0, 0] = x[0, 0, 0, 1, 5] = torch.nan
    x[0, 0, 1, 2] = -torch.inf
    x[0, 1, 0, 0, 3] = torch.inf
    return x


@each_case
@each_execution
@pytest.mark.parametrize(("size", "steps"), [(1, 2), (264, 1), (77, 3)])
def test_gated_products(
    size: int, steps: int, as_train: bool, dtype: torch.dtype, code: str, launched: list[cuda_driver.Launch]
) -> None:
    gate, up = oats(2, code, as_train)
    (silu,) = hgs(code, as_train, "silu")
    nodes = (silu, gate, up)
    generator = torch.Generator().manual_seed(size)
    drawn = draw(2 * steps * size, size, torch.float32, 60.0).view(2, steps, size)
    for first, second in (torch.randn(2, steps, size, generator=generator) * 4, drawn):
        assert_same(nodes, lambda x, y: fused.gated_product(nodes, x, y, as_train=as_train), (first, second), dtype)
    assert len(launched) == 2


def test_tables_too_large_for_shared_memory(
    launched: list[cuda_driver.Launch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read where they lie."""
    monkeypatch.setattr(cuda_layers, "_MOST_TABLES", 0)
    gate, up = oats(2, "usual", False)
    (silu,) = hgs("usual", False, "silu")
    nodes, x = (silu, gate, up), draw(999, 1, torch.float32, 60.0).view(1, -1)
    assert_same(nodes, lambda x, y: fused.gated_product(nodes, x, y, as_train=False), (x, x.flip(-1)), torch.float32)
    assert launched[0].shared_bytes == 0


def test_rows_too_long_for_shared_memory_run_one_by_one(launched: list[cuda_driver.Launch]) -> None:
    first, second, third = oats(3, "usual", False)
    square, rsqrt = hgs("usual", False, "square", "rsqrt")
    nodes = (first, square, rsqrt, second, third)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "kernels_for", lambda backend, x: cuda)
        x = torch.randn(1, 2, 40_000)
        assert fused.norm(nodes, x, None, None, 1e-5, centres=False, as_train=False) is None
    assert not launched


@pytest.mark.parametrize("dtype", cuda.HALF, ids=str)
@pytest.mark.parametrize("name", ["oat", "gelu", "rsqrt"])
def test_sums_by_tables(
    name: str, dtype: torch.dtype, launched: list[cuda_driver.Launch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All patterns, looked up and computed; a threshold that somebody writes to is seen, known to torch or not."""
    node = OATNode(0.75, 20.0, 16, 15) if name == "oat" else HGNode(name, 16)
    x = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(1, -1).view(dtype)
    neurons, sums = node.population.structure(x), []
    for least in (1 << 30, 1):
        monkeypatch.setattr(cuda, "LEAST_LOOKED_UP", least)
        sums.append(cuda.emit(neurons, x, None, False, None, False))
    assert same(sums[0][0], sums[1][0])
    assert int(sums[0][2].beyond) == int(sums[1][2].beyond) > 0
    assert launched[-1].part == "TABLES"
    if isinstance(node, OATNode):
        node.theta_normal.data.fill_(1.5)
        changed = cuda.emit(neurons, x, None, False, None, False)[0]
        monkeypatch.setattr(cuda, "LEAST_LOOKED_UP", 1 << 30)
        assert same(changed, cuda.emit(neurons, x, None, False, None, False)[0])
        assert not same(changed, sums[0][0])
