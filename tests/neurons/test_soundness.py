"""Thresholds and tables that nothing can be computed with: said by name, and never read past their end."""

import math
from collections.abc import Callable

import pytest
import torch
from extreme_inputs import same
from torch import Tensor, nn

from las_sj.neurons import FUNCTIONS, HGNode, MTNode, OATNode, SeenValues, WindowNode
from las_sj.neurons.kernels import host
from las_sj.neurons.soundness import LEAST, MOST

X = torch.linspace(-8.0, 8.0, 99)
BROKEN = (0.0, -1.0, 1e-45, 1e-30, 1e30, math.inf, -math.inf, math.nan)

needs_compiler = pytest.mark.skipif(host.load() is None, reason="no C++ compiler")


@pytest.mark.parametrize("value", BROKEN)
def test_thresholds_out_of_range(value: float) -> None:
    with pytest.raises(ValueError, match=r"theta must be finite and positive, within 8.1e-28…1.2e\+27"):
        MTNode(value, 8)
    node = OATNode(torch.ones(3), torch.full((3,), 2.0), 8)
    node.theta_outlier.data[1] = value
    names = [name for name, _ in node.faults()]
    assert "theta_outlier" in names
    node.theta_normal.data[1] = value
    assert set(dict(node.faults())) >= {"theta_normal", "theta_outlier"}


@pytest.mark.parametrize("node", [MTNode(LEAST, 24, 127), OATNode(LEAST, MOST, 24, 127), MTNode(MOST, 24)], ids=str)
def test_thresholds_at_the_ends_of_the_range(node: MTNode | OATNode) -> None:
    assert list(node.faults()) == []
    for theta in node.thresholds:
        x = theta.data * torch.tensor([1.0, 0.75, -0.5])
        torch.testing.assert_close(node(x), x, rtol=1e-6, atol=0)


@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1.0, 1e30, 3e38])
@pytest.mark.parametrize("make", [lambda: MTNode(1.0, 16, 15), lambda: OATNode(1.0, 1.0, 16, 15)])
def test_calibration_keeps_to_the_range(make: Callable[[], MTNode | OATNode], scale: float) -> None:
    """Of activations that are all but zero, or beyond what anybody has."""
    node, seen = make(), SeenValues()
    seen.add(torch.tensor([scale, scale / 2, 0.0]))
    node.calibrate(seen, 1.5)
    assert list(node.faults()) == []


@pytest.mark.parametrize("value", [1e30, 3e38])
@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_calibrated_ranges_are_numbers(name: str, value: float) -> None:
    node, seen = HGNode(name, 8), SeenValues()
    seen.add(
        torch.tensor([-value, value]) if name not in ("rsqrt", "reciprocal", "sqrt", "log") else torch.tensor([value])
    )
    node.calibrate(seen, 1.5)
    assert max(abs(node.low), abs(node.high)) <= MOST


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_tables_are_those_of_the_fit(name: str) -> None:
    node = HGNode(name, 12)
    for copy in (node, HGNode(name, 12).double(), HGNode(name, 12).half(), HGNode(name, 12).bfloat16()):
        assert list(copy.faults()) == []
        assert list(copy.faults(of_layout=True)) == []
    for table, _ in node.named_buffers():
        kept = getattr(node, table).clone()
        for value in BROKEN if kept.is_floating_point() else (-1, 2**31 - 1, len(kept)):
            getattr(node, table).fill_(value)
            assert [found for found, _ in node.faults()] == [table] or bool((kept == value).all())
        getattr(node, table).copy_(kept)


def test_tables_of_another_machine_may_differ_in_their_last_digits() -> None:
    node = HGNode("gelu", 16)
    node.bias.mul_(1 + 2**-22)
    assert list(node.faults()) == []


REPLACED: dict[str, Callable[[Tensor], Tensor]] = {
    "int8": lambda table: table.to(torch.int8),
    "bool": lambda table: table.to(torch.bool),
    "int64": lambda table: table.to(torch.int64),
    "shorter": lambda table: table[:-1].clone(),
    "empty": lambda table: table[:0].clone(),
    "strided": lambda table: torch.stack([table, table], 1)[:, 0],
}


@needs_compiler
@pytest.mark.parametrize("replace", list(REPLACED))
@pytest.mark.parametrize("table", ["cells", "start", "inverse_width", "bias", "amplitude"])
def test_kernels_refuse_tables_that_they_would_read_past(table: str, replace: str) -> None:
    node = HGNode("gelu", 16, backend="host")
    expected = node(X)
    node._buffers[table] = REPLACED[replace](getattr(node, table))
    with pytest.raises(ValueError, match=f"{table} must (have the type|be contiguous)"):
        node(X)
    node._buffers[table] = HGNode("gelu", 16).get_buffer(table)
    assert same(node(X), expected)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool])
def test_kernels_refuse_thresholds_that_are_integers(dtype: torch.dtype) -> None:
    node = MTNode(1.0, 16, backend="host")
    node.theta = nn.Parameter(torch.ones((), dtype=dtype), requires_grad=False)
    with pytest.raises(ValueError, match="theta must be floating-point numbers"):
        node(X)


@needs_compiler
@pytest.mark.parametrize("value", [-1, -(2**31), 2**31 - 1, 5000])
def test_kernels_stay_within_their_tables(value: int) -> None:
    """Whoever writes cells that no sub-neuron owns gets a sub-neuron's line, not the memory beside the tables."""
    node = HGNode("gelu", 16, backend="host")
    node(X)
    lines = node.bias[-1], node.amplitude[-1]
    node.cells.fill_(value)
    inside = node(torch.tensor([0.5, -0.25]))
    assert bool(((inside >= lines[0]) & (inside <= lines[0] + lines[1])).all())


@needs_compiler
@pytest.mark.parametrize("cast", ["double", "half", "bfloat16", "float"])
@pytest.mark.parametrize("make", [lambda: HGNode("gelu", 16), lambda: OATNode(0.5, 4.0, 16, 15)])
def test_casts_of_a_node_go_on(make: Callable[[], WindowNode], cast: str) -> None:
    node = getattr(make(), cast)()
    assert same(node(X), make()(X))
