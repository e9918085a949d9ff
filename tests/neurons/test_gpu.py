"""The kernels on a real GPU, through CuPy: `pytest -m gpu`, and `compute-sanitizer pytest -m gpu` for their memory."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from extreme_inputs import NODES, draw, same
from tiny_families import TINY_MODELS
from tiny_models import EXECUTIONS, relative_error, run
from torch import Tensor

import las_sj
from las_sj.models import named_sites
from las_sj.neurons import HGNode, OATNode, WindowNode, fused
from las_sj.neurons.kernels import cuda, host

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
    """A compiled graph may contract a product and a sum, which moves a potential by a last digit, and a code a step."""
    node.step_mode = "s"
    x = torch.randn(4096, device="cuda")
    difference = (torch.compile(node)(x) - node(x)).abs()
    scale = node.spike_scale(x)[0].abs()
    step = scale * 2.0**-node.time_steps * (2 if isinstance(node, OATNode) else 1)
    assert bool((difference <= step.clamp(min=1e-5)).all())
    assert float((difference > 1e-5).float().mean()) < 0.01


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_tables_of_all_patterns(node: WindowNode, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked up and computed, each of the 65,536 patterns gives the same."""
    x = torch.arange(1 << 16, dtype=torch.int32, device="cuda").to(torch.int16).view(dtype)
    node.step_mode = "s"
    sums, beyond = [], []
    for least in (1, 1 << 30):
        monkeypatch.setattr(cuda, "LEAST_LOOKED_UP", least)
        node.reset_counts()
        sums.append(node(x))
        beyond.append(node.out_of_range)
    assert same(*sums)
    assert len({*beyond}) == 1


def test_thresholds_that_change_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """By tables too, however they were written to."""
    monkeypatch.setattr(cuda, "LEAST_LOOKED_UP", 1)
    node, x = OATNode(0.75, 20.0, 16, 15).cuda(), torch.linspace(-30, 30, 4096, device="cuda", dtype=torch.bfloat16)
    for value in (0.75, 3.0):
        node.theta_normal.data.fill_(value)
        assert same(node(x).cpu(), OATNode(value, 20.0, 16, 15)(x.float().cpu()).to(x.dtype))


Layer = Callable[[torch.Tensor], Tensor | None]


def layer_of(name: str, as_train: bool, device: str, dtype: torch.dtype, levels: int = 15) -> Layer:
    """A layer of all its populations in one kernel, for inputs [S, 6, 512]."""
    mode = "m" if as_train else "s"
    oats = [OATNode(1.7 + 0.1 * i, 40.3 + i, 16, levels, step_mode=mode).to(device) for i in range(3)]
    hgs = [HGNode(f, 16, step_mode=mode).to(device) for f in ("square", "rsqrt", "exp", "reciprocal", "silu")]
    square, rsqrt, exponential, reciprocal, silu = hgs
    first, second, third = oats
    silu.set_range(-30.0, 40.0)
    gains = (torch.arange(512) % 16 / 8 - 1).to(device, dtype)  # exact in half precision
    if name == "norm":
        nodes = (first, square, rsqrt, second, third)
        return lambda x: fused.norm(nodes, x, gains, gains, 1e-5, centres=True, as_train=as_train)
    if name == "softmax":
        nodes_of_softmax = (exponential, first, reciprocal, second, third)
        return lambda x: fused.softmax(nodes_of_softmax, x, None, as_train=as_train)
    return lambda x: fused.gated_product((silu, first, second), x, -x, as_train=as_train)


LAYERS = ("norm", "softmax", "gated")


@pytest.mark.parametrize("levels", [15, 1])
@pytest.mark.parametrize("as_train", [False, True])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.skipif(host.load() is None, reason="no C++ compiler")
def test_layers(name: str, as_train: bool, levels: int) -> None:
    """Bit for bit what a processor computes; in half precision what it computes in fp32, rounded."""
    x = torch.randn(2, 6, 512, generator=torch.Generator().manual_seed(0)) * 3
    x[0, 1, 3], x[0, 2, 7] = 1e4, torch.nan
    for dtype in cuda.DTYPES:
        given, wide = x.to(dtype), x.to(dtype).to(torch.promote_types(dtype, torch.float32))
        found = layer_of(name, as_train, "cuda", dtype, levels)(given.cuda())
        expected = layer_of(name, as_train, "cpu", wide.dtype, levels)(wide)
        assert found is not None
        assert expected is not None
        assert same(found.cpu(), expected.to(dtype))


@pytest.mark.parametrize("as_train", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_graphs_of_layers(name: str, as_train: bool) -> None:
    """A layer is captured once and replayed on other inputs."""
    layer, x = layer_of(name, as_train, "cuda", torch.bfloat16), torch.randn(1, 6, 512, device="cuda").bfloat16()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        layer(x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = layer(x)
    assert y is not None
    for _ in range(2):
        x.copy_(torch.randn(1, 6, 512))
        graph.replay()
        torch.cuda.synchronize()
        expected = layer(x)
        assert expected is not None
        assert same(y, expected)


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
