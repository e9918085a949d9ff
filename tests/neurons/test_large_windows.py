"""Large windows take shorter ways through the kernels on a processor than small ones; both equal torch bit for bit."""

import pytest
import torch
from torch import Tensor

from las_sj.neurons import HGNode, OATNode, WindowNode
from las_sj.neurons.kernels import host

COUNT = 6 * 4096  # more than any grid has sub-neurons
CODES = [
    (16, 15, "nearest"),
    (16, 1, "floor"),
    (16, 1, "nearest"),
    (16, 15, "floor"),
    (5, 3, "nearest"),
    (12, 31, "floor"),
]

pytestmark = pytest.mark.skipif(host.load() is None, reason="no C++ compiler")


@pytest.fixture(scope="module")
def values() -> Tensor:
    """In range and beyond it, ties of coarse codes, tiny ones, zeros, infinite ones and NaN; rows of one kind each."""
    torch.manual_seed(0)
    ties = torch.randint(-64, 65, (4096,)) / 32.0
    tiny = torch.randn(4096) * torch.exp2(-torch.randint(0, 140, (4096,)).float())
    special = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan]).repeat(820)[:4096]
    far = torch.randn(4096) * 1e4
    return torch.stack([torch.randn(4096), torch.randn(4096) * 8, ties, tiny, far, special])


def on(backend: str, node: WindowNode, x: Tensor) -> tuple[Tensor, int]:
    node.backend = backend
    node.reset_counts()
    return node(x), node.out_of_range


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("code", CODES, ids=str)
def test_codes(values, code, dtype, step_mode):
    node = OATNode(1.3, 9.7, *code, step_mode=step_mode)
    x = values.to(dtype) if step_mode == "s" else values.to(dtype).unsqueeze(0)
    (found, beyond), (expected, expected_beyond) = on("host", node, x), on("torch", node, x)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    assert beyond == expected_beyond > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("function", ["gelu", "silu", "exp", "tanh", "square", "rsqrt"])
def test_functions(values, function, dtype):
    node = HGNode(function, 16)
    (found, beyond), (expected, expected_beyond) = (
        on("host", node, values.to(dtype)),
        on("torch", node, values.to(dtype)),
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    assert beyond == expected_beyond


def test_large_windows_and_small_ones_agree(values):
    node = HGNode("gelu", 16, backend="host")
    rows = torch.cat([node(row[None]) for row in values.reshape(-1, 256)])  # fewer than GELU has sub-neurons
    torch.testing.assert_close(node(values).reshape(-1, 256), rows, rtol=0, atol=0, equal_nan=True)
    assert node.gates.fit is not None
    assert 256 < node.gates.fit.lines.start.numel() < COUNT


@pytest.mark.parametrize("theta", [1e-27, 1e26])
def test_units_that_no_reciprocal_serves(values, theta):
    node = OATNode(theta, theta * 4, 16, 15)
    x = values[:2] * theta
    torch.testing.assert_close(on("host", node, x)[0], on("torch", node, x)[0], rtol=0, atol=0)
