"""The kernels on a real GPU, through CuPy: `pytest -m gpu`, and `compute-sanitizer pytest -m gpu` for their memory."""

import copy
from typing import Any

import pytest
import torch
from extreme_inputs import NODES, draw, same
from tiny_families import TINY_MODELS
from tiny_models import EXECUTIONS, relative_error, run
from torch import Tensor

import las_sj
from las_sj.models import named_sites
from las_sj.neurons import WindowNode
from las_sj.neurons.kernels import cuda

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]
SIZES = (1, 7, 8, 1024, 100_003)


@pytest.fixture(autouse=True)
def needs_cupy() -> None:
    if not cuda.available():
        pytest.skip("CuPy is missing or cannot compile")


@pytest.fixture(params=list(NODES))
def node(request: pytest.FixtureRequest) -> WindowNode:
    return NODES[request.param]().cuda()


def on_processor(node: WindowNode, x_seq: Tensor) -> Tensor:
    """The reference: torch, on the CPU, in the same precision."""
    reference = copy.deepcopy(node).cpu()
    reference.backend = "torch"
    return reference.train_from(x_seq.cpu())[1]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_trains_and_sums(node: WindowNode, size: int, dtype: torch.dtype) -> None:
    x_seq = draw(size, 0, dtype).view(1, size).cuda()
    node.count_spikes = True
    expected = copy.deepcopy(node).cpu()
    expected.backend = "torch"
    for mode in ("m", "s"):
        node.step_mode = expected.step_mode = mode
        given = x_seq if mode == "m" else x_seq[0]
        node.reset_counts()
        expected.reset_counts()
        assert same(node(given).cpu(), expected(given.cpu()))
        assert node.spike_count is not None
        assert expected.spike_count is not None
        assert torch.equal(node.spike_count.cpu(), expected.spike_count)
        assert node.out_of_range == expected.out_of_range


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(node: WindowNode, dtype: torch.dtype) -> None:
    """Read and written in half precision, computed in single precision."""
    x_seq = draw(4096, 1, torch.float32).to(dtype).view(1, -1)
    found = node.train_from(x_seq.cuda())[1]
    assert same(found.cpu(), on_processor(node, x_seq.float()).to(dtype))


def test_levels_as_small_integers(node: WindowNode) -> None:
    v = draw(4099, 2, torch.float32).cuda()
    reference = copy.deepcopy(node).cpu()
    assert torch.equal(node.spikes_of(v).cpu(), reference.spikes_of(v.cpu()))


def test_gradients(node: WindowNode) -> None:
    gradients = []
    x = torch.randn(3, 500, generator=torch.Generator().manual_seed(0))
    for device, backend in (("cuda", "cupy"), ("cpu", "torch")):
        other = copy.deepcopy(node).to(device)
        other.backend, other.step_mode = backend, "m"
        for parameter in other.parameters():
            parameter.requires_grad_()
        inputs = x.to(device).requires_grad_()
        other(inputs).square().sum().backward()
        gradients.append([inputs.grad, *(parameter.grad for parameter in other.parameters())])
    for first, second in zip(*gradients, strict=True):
        assert first is not None
        assert second is not None
        torch.testing.assert_close(first.cpu(), second, rtol=1e-5, atol=1e-6)


def test_graphs(node: WindowNode) -> None:
    """A window is captured and replayed on other inputs."""
    node.step_mode = "m"
    x_seq = torch.randn(4, 4096, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        node(x_seq)  # compiles, and copies the tables' addresses
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        train = node(x_seq)
    for seed in (1, 2):
        x_seq.copy_(torch.randn(4, 4096, generator=torch.Generator().manual_seed(seed)))
        graph.replay()
        torch.cuda.synchronize()
        assert same(train, node(x_seq))


def test_streams(node: WindowNode) -> None:
    """Kernels run on torch's current stream: after what was queued on it, and before what follows."""
    node.step_mode = "s"
    stream = torch.cuda.Stream()
    expected = node(torch.ones(1 << 20, device="cuda"))
    with torch.cuda.stream(stream):
        x = torch.zeros(1 << 20, device="cuda")
        torch.cuda._sleep(50_000_000)
        x.fill_(1.0)
        y = node(x)
    stream.synchronize()
    assert same(y, expected)


def test_compiled(node: WindowNode) -> None:
    node.step_mode = "s"
    x = torch.randn(4096, device="cuda")
    torch.testing.assert_close(torch.compile(node)(x), node(x), rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("name", ["BertModel", "LlamaForCausalLM"])
def test_models(name: str) -> None:
    tiny = TINY_MODELS[name]
    snn = las_sj.convert(tiny.build(), None, [tiny.batch(4, 1)]).double()
    batch: dict[str, Any] = tiny.batch(2, 3)
    for execution in EXECUTIONS:
        expected = run(copy.deepcopy(snn), execution, **batch)[0]
        gpu = copy.deepcopy(snn).cuda()
        assert all(site.node.backend == "auto" for _, site in named_sites(gpu))
        found = run(gpu, execution, **{key: value.cuda() for key, value in batch.items()})[0]
        assert relative_error(found.cpu(), expected) < 1e-9
