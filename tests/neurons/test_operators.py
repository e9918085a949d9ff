"""Populations as operators of torch: what torch.compile and torch.export run is what the nodes do."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, library

from las_sj.neurons import HGNode, MTNode, OATNode, WindowNode
from las_sj.neurons.operators import node_of

CHANNELS = 6
NODES: dict[str, Callable[[], WindowNode]] = {
    "mt": lambda: MTNode(2.0, 12, 3, "floor", max_spikes=2),
    "oat": lambda: OATNode(0.5, 2.0, 16, 15),
    "oat-channel": lambda: OATNode(torch.linspace(0.3, 0.6, CHANNELS), 2.0, 16, 15),
    "gelu": lambda: HGNode("gelu", 16, -1.0, 2.0),
    "exp": lambda: HGNode("exp", 8),
    "gelu within lines": lambda: HGNode("gelu", 16, -1.0, 2.0, lines=20),
    "square": lambda: HGNode("square", 12),
}
MODES = ("s", "m")


@pytest.fixture(autouse=True)
def forget_what_was_compiled() -> None:
    torch._dynamo.reset()


def inputs(step_mode: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """Some of which are out of range."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn((3, 4, CHANNELS) if step_mode == "m" else (4, CHANNELS), generator=generator).to(dtype) * 2


def compiled(node: WindowNode) -> Callable[[Tensor], Tensor]:
    return torch.compile(node, fullgraph=True, backend="aot_eager")


def in_mode(name: str, step_mode: str) -> WindowNode:
    node = NODES[name]()
    node.step_mode = step_mode
    return node


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("step_mode", MODES)
@pytest.mark.parametrize("name", NODES)
def test_compiled_nodes(name: str, step_mode: str, dtype: torch.dtype) -> None:
    """In one graph; inputs out of range are counted as ever."""
    node, x = in_mode(name, step_mode), inputs(step_mode, dtype)
    expected = copy.deepcopy(node)
    assert torch.equal(compiled(node)(x), expected(x))
    assert node.out_of_range == expected.out_of_range
    assert node.counts.inputs == expected.counts.inputs


@pytest.mark.parametrize("step_mode", MODES)
@pytest.mark.parametrize("name", NODES)
def test_gradients(name: str, step_mode: str) -> None:
    """To what goes in, and to thresholds."""
    found: list[list[Tensor]] = []
    weights = torch.linspace(-1, 1, CHANNELS)
    for prepare in (compiled, lambda node: node):
        node, x = in_mode(name, step_mode).requires_grad_(), inputs(step_mode).requires_grad_()
        (prepare(node)(x) * weights).sum().backward()
        found.append([tensor.grad for tensor in (x, *node.parameters()) if tensor.grad is not None])
    assert len(found[0]) == len(found[1])
    for gradient, expected in zip(*found, strict=True):
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("step_mode", MODES)
@pytest.mark.parametrize("name", NODES)
def test_operators_keep_the_rules_of_torch(name: str, step_mode: str) -> None:
    """Their schema, shapes without values, gradients, and shapes that change."""
    node, x = in_mode(name, step_mode), inputs(step_mode).requires_grad_()
    operands = (node.operands, node.signature, step_mode == "m", node.population.tag)
    library.opcheck(torch.ops.las_sj.population.default, (x, *operands))


@pytest.mark.parametrize("name", NODES)
def test_a_signature_and_tables_are_a_node(name: str) -> None:
    node, x = in_mode(name, "s"), inputs("s")
    assert node.signature is not None
    other = node_of(node.signature, node.operands)
    assert torch.equal(other(x), node(x))
    assert other.out_of_range == node.out_of_range
    assert other.signature == node.signature


def test_a_subclass_is_another_neuron() -> None:
    """Whose operator nobody knows, so that it is compiled as what it does, where that can be."""

    class Other(MTNode):
        pass

    assert Other(1.0, 8).signature is None
    with pytest.raises(ValueError, match="no neuron has the signature 'other 8 1 nearest None'"):
        node_of("other 8 1 nearest None", ())


@pytest.mark.parametrize("step_mode", MODES)
def test_who_observes_a_node_is_told(step_mode: str) -> None:
    """Also where that begins after the node was compiled: it runs uncompiled then."""
    node, x = in_mode("oat", step_mode), inputs(step_mode)
    run = torch.compile(node, backend="aot_eager")
    expected = run(x)
    seen: list[Tensor] = []
    node.count_spikes = True
    node.recorder = lambda _, record: seen.append(record.emitted)
    assert torch.equal(run(x), expected)
    assert torch.equal(seen[0], expected)
    assert node.spike_count is not None
    with pytest.raises(RuntimeError, match="cannot be exported while its neurons are observed"):
        torch.export.export(node, (x,))


def test_thresholds_and_ranges_that_change_are_seen() -> None:
    oat, gelu, x = in_mode("oat", "s"), HGNode("gelu", 16, -1.0, 2.0), inputs("s")
    runs = compiled(oat), compiled(gelu)
    for value, high in ((0.5, 9.0), (1.5, 12.0)):
        oat.theta_normal.data.fill_(value)
        gelu.set_range(-9.0, high)
        assert torch.equal(runs[0](x), copy.deepcopy(oat)(x))
        assert torch.equal(runs[1](10 * x), copy.deepcopy(gelu)(10 * x))
        oat.theta_normal = torch.nn.Parameter(torch.tensor(1.0 + value), requires_grad=False)
        assert torch.equal(runs[0](x), copy.deepcopy(oat)(x))
