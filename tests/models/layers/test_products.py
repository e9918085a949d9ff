"""Products of spike trains sum to the product of the sums."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import BroadcastableShapes, mutually_broadcastable_shapes
from torch import Tensor

from las_sj.models.layers import products
from las_sj.models.layers.products import spiking_matmul, spiking_product, subtract_running_max

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
DTYPES = st.sampled_from(list(TOLERANCE))
STEPS = st.integers(1, 6)
SIZE = st.integers(1, 4)


def train_of(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    """Random values, a part of them zero, as spikes have it."""
    values = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (values * (values.abs() > 0.5)).to(dtype)


def assert_sums_to(train: Tensor, expected: Tensor) -> None:
    assert train[0].shape == expected.shape
    assert train.dtype == expected.dtype
    tolerance = TOLERANCE[expected.dtype] * max(1.0, float(expected.abs().max()) if expected.numel() else 0.0)
    torch.testing.assert_close(train.sum(0), expected, atol=tolerance, rtol=0)


@given(st.lists(SIZE, max_size=2), STEPS, SIZE, SIZE, SIZE, DTYPES, st.integers(0, 9))
def test_matmul(batch: list[int], steps: int, m: int, k: int, n: int, dtype: torch.dtype, seed: int) -> None:
    a, b = train_of((steps, *batch, m, k), dtype, seed), train_of((steps, *batch, k, n), dtype, seed + 10)
    assert_sums_to(spiking_matmul(a, b), a.sum(0) @ b.sum(0))


@given(mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3), STEPS, DTYPES, st.integers(0, 9))
def test_product_broadcasts(shapes: BroadcastableShapes, steps: int, dtype: torch.dtype, seed: int) -> None:
    dims = max(len(shape) for shape in shapes.input_shapes)
    first, second = ((1,) * (dims - len(shape)) + shape for shape in shapes.input_shapes)
    a, b = train_of((steps, *first), dtype, seed), train_of((steps, *second), dtype, seed + 10)
    assert_sums_to(spiking_product(a, b), a.sum(0) * b.sum(0))


@given(st.lists(SIZE, min_size=1, max_size=3), STEPS, DTYPES, st.integers(0, 9))
def test_running_max(shape: list[int], steps: int, dtype: torch.dtype, seed: int) -> None:
    x = train_of((steps, *shape), dtype, seed)
    total = x.sum(0)
    assert_sums_to(subtract_running_max(x.clone()), total - total.amax(-1, keepdim=True))


@given(STEPS, st.integers(0, 9))
def test_running_max_is_causal(steps: int, seed: int) -> None:
    """What is subtracted at a step must not depend on later ones."""
    x = train_of((steps, 2, 3), torch.float64, seed)
    whole = subtract_running_max(x.clone())
    for t in range(1, steps + 1):
        torch.testing.assert_close(subtract_running_max(x[:t].clone()), whole[:t], atol=1e-12, rtol=0)


@pytest.mark.parametrize("multiply", [spiking_matmul, spiking_product])
def test_products_are_causal(multiply: object) -> None:
    a, b = train_of((5, 3, 3), torch.float64, 0), train_of((5, 3, 3), torch.float64, 1)
    assert callable(multiply)
    whole = multiply(a, b)
    for t in range(1, 6):
        torch.testing.assert_close(multiply(a[:t], b[:t]), whole[:t], atol=1e-12, rtol=0)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
@pytest.mark.parametrize("steps", [1, 4])
def test_empty(shape: tuple[int, int], steps: int) -> None:
    a, b = torch.randn(steps, *shape), torch.randn(steps, *shape)
    assert spiking_product(a, b).shape == (steps, *shape)
    product = spiking_matmul(a, b.transpose(-1, -2))
    assert product.shape == (steps, shape[0], shape[0])
    assert not product.any()


def test_no_tokens_in_running_max() -> None:
    assert subtract_running_max(torch.randn(3, 0, 4)).shape == (3, 0, 4)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_gradients_are_those_of_the_plain_product(dtype: torch.dtype) -> None:
    a, b = (train_of((4, 3, 3), dtype, seed).requires_grad_() for seed in (0, 1))
    for spiking, plain in ((spiking_matmul, torch.matmul), (spiking_product, torch.mul)):
        gradients = torch.autograd.grad(spiking(a, b).sum(0).square().sum(), (a, b))
        expected = torch.autograd.grad(plain(a.sum(0), b.sum(0)).square().sum(), (a, b))
        for gradient, reference in zip(gradients, expected, strict=True):
            torch.testing.assert_close(gradient, reference, rtol=TOLERANCE[dtype] * 10, atol=TOLERANCE[dtype] * 100)


def test_with_gradient_as_without() -> None:
    a, b = train_of((4, 2, 3), torch.float64, 0), train_of((4, 2, 3), torch.float64, 1)
    with_gradient = spiking_product(a.clone().requires_grad_(), b)
    torch.testing.assert_close(with_gradient, spiking_product(a, b), atol=1e-14, rtol=0)
    with_gradient = subtract_running_max(a.clone().requires_grad_())
    torch.testing.assert_close(with_gradient, subtract_running_max(a.clone()), atol=1e-14, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_all_steps_at_once_as_step_by_step(dtype: torch.dtype) -> None:
    """What accelerators run is what processors run, each step of it."""
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.1}[dtype]
    a, b = train_of((6, 3, 4, 5), dtype, 0), train_of((6, 3, 5, 2), dtype, 1)
    matmul = (products._matmul, products._add_matmul)
    hadamard = (torch.mul, Tensor.addcmul_)
    for first, second, pair in ((a, b, matmul), (a, train_of((6, 3, 4, 1), dtype, 2), hadamard)):
        expected = products._step_by_step(first, second, *pair)
        found = products._all_steps(first, second, *pair)
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=0, check_dtype=False)


def test_running_max_of_all_steps_at_once() -> None:
    x = train_of((6, 2, 3, 4), torch.float64, 0)
    expected = products._running_max(x)
    torch.testing.assert_close(products._sums_up_to(x).amax(-1, keepdim=True), expected, atol=1e-12, rtol=0)
