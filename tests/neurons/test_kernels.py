"""The compiled kernels: bit for bit what torch computes, on a processor and, emulated, as a GPU would run them."""

import copy
import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import emulated_gpu
import pytest
import torch
from compilers import quick_compiler
from engines import ENGINES, assert_same, run_on, threshold_node
from extreme_inputs import NORMAL, OUTLIER, draw, same
from hypothesis import example, given
from hypothesis import strategies as st
from programs import run
from torch import Tensor

from las_sj.neurons import FUNCTIONS, HGNode, MTNode, OATNode
from las_sj.neurons.functions import GridFunction
from las_sj.neurons.kernels import cuda, cuda_driver, host

DTYPES = (torch.float32, torch.float64)
HALF = (torch.float16, torch.bfloat16)

needs_compiler = pytest.mark.skipif(host.load() is None, reason="no C++ compiler")
pytestmark = needs_compiler
seeds = st.integers(0, 2**32 - 1)
settings_of_codes = st.fixed_dictionaries(
    {
        "time_steps": st.integers(1, 24),
        "levels": st.sampled_from((1, 2, 3, 7, 15, 63, 127)),
        "rounding": st.sampled_from(("nearest", "floor")),
        "max_spikes": st.sampled_from((None, 1, 2, 3, 30)),
    }
)


@pytest.fixture(autouse=True, scope="module")
def emulated_launch() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        emulated_gpu.instead_of_a_gpu(patch)
        yield


@given(
    st.sampled_from(ENGINES),
    st.sampled_from(("mt", "mt-channel", "oat", "oat-channel")),
    settings_of_codes,
    st.integers(0, 40),
    st.integers(1, 3),
    st.booleans(),
    seeds,
    st.sampled_from((*DTYPES, *HALF)),
)
@example("host", "oat", {"time_steps": 16, "levels": 15}, 3000, 3, True, 0, torch.float32)
@example("emulated", "oat-channel", {"time_steps": 16, "levels": 15}, 3000, 2, False, 0, torch.float32)
def test_thresholds(
    engine: str,
    kind: str,
    settings: dict[str, Any],
    rows: int,
    steps: int,
    as_train: bool,
    seed: int,
    dtype: torch.dtype,
) -> None:
    currents = draw(steps * rows * 3, seed, dtype).view(steps, rows, 3)
    node = threshold_node(kind, settings)
    assert_same(run_on(engine, node, currents, as_train), run_on("torch", node, currents, as_train))


@given(
    st.sampled_from(ENGINES),
    st.sampled_from(list(FUNCTIONS)),
    st.integers(1, 24),
    st.sampled_from((1e-5, 1e-3)),
    st.integers(0, 90),
    st.integers(1, 3),
    st.booleans(),
    seeds,
    st.sampled_from((*DTYPES, *HALF)),
    st.sampled_from((None, 8, 40)),
)
@example("host", "gelu", 16, 1e-5, 9000, 2, True, 0, torch.float32, None)
@example("emulated", "silu", 16, 1e-5, 9000, 2, True, 0, torch.float32, None)
@example("host", "reciprocal", 5, 1e-3, 9000, 1, True, 0, torch.float32, None)
@example("host", "exp", 16, 1e-5, 9000, 2, True, 0, torch.float32, 40)
@example("emulated", "exp", 16, 1e-5, 9000, 2, True, 0, torch.float32, 40)
@example("emulated", "tanh", 12, 1e-5, 9000, 2, False, 0, torch.float32, 8)
def test_gates(
    engine: str,
    function: str,
    time_steps: int,
    tolerance: float,
    size: int,
    steps: int,
    as_train: bool,
    seed: int,
    dtype: torch.dtype,
    lines: int | None,
) -> None:
    node = HGNode(function, time_steps, tolerance=tolerance, lines=lines)
    if isinstance(node.function, GridFunction):
        node.set_range(*((-30.0, 40.0) if lines is None else (-3.0, 2.0)))  # the latter within the core
    currents = draw(steps * size, seed, dtype, largest=60.0).view(steps, size)
    assert_same(run_on(engine, node, currents, as_train), run_on("torch", node, currents, as_train))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("as_train", [True, False])
@pytest.mark.parametrize("name", ["oat", "gelu"])
def test_every_number_of_half_precision(name: str, as_train: bool, dtype: torch.dtype, engine: str) -> None:
    """Read and written in half precision, computed in single precision; past the caches too."""
    node = OATNode(NORMAL, 1e6, 24, 15) if name == "oat" else HGNode("gelu", 24)
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    currents = torch.stack([every, every.roll(1) * 2.0**-6])
    if engine == "host":
        currents = currents.repeat(1, 4)
    assert_same(run_on(engine, node, currents, as_train), run_on("torch", node, currents, as_train))


@given(st.sampled_from((*DTYPES, *HALF)), seeds, st.sampled_from((0, 1, 7, 8, 1000, 1003)))
def test_levels_as_small_integers(dtype: torch.dtype, seed: int, size: int) -> None:
    """Trains of int8, by the kernel that writes them."""
    v = draw(size, seed, torch.float32).to(dtype)
    for node in (OATNode(NORMAL, OUTLIER, 12, 15), MTNode(NORMAL, 5, 63, "floor"), HGNode("tanh", 9)):
        levels = cuda.spikes(node.population.structure(v), v, node.time_steps)
        assert levels.dtype == torch.int8
        assert torch.equal(levels.to(torch.int16), node.spikes_of(v.to(torch.promote_types(dtype, torch.float32))))


STRIDES: dict[str, Callable[[Tensor], Tensor]] = {
    "heads": lambda x: x.view(2, 3, 4, 5, 8).transpose(2, 3),
    "steps apart": lambda x: x.view(4, 2, 3, 4, 5, 2)[::2, 0],
    "reversed axes": lambda x: x.view(2, 3, 4, 5, 8).permute(0, 4, 3, 2, 1),
    "expanded": lambda x: x.view(2, 480)[:, :8].unsqueeze(1).expand(2, 5, 8),
    "one column": lambda x: x.view(2, 120, 4)[..., 1],
    "a window of rows": lambda x: x.view(2, 12, 40)[:, 2:9, 3:20],
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("strides", list(STRIDES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_strides(dtype: torch.dtype, engine: str, strides: str) -> None:
    currents = STRIDES[strides](draw(960, 1, dtype))
    node = OATNode(NORMAL, OUTLIER, 16, 15)
    assert_same(run_on(engine, node, currents, True), run_on("torch", node, currents.contiguous(), True))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads(threads: int) -> None:
    """And trains that are written past the caches, at any alignment."""
    before = torch.get_num_threads()
    currents = draw(2 * 300_001, 2, torch.float32).view(2, 300_001)
    node = OATNode(NORMAL, OUTLIER, 16, 15)
    expected = run_on("torch", node, currents, True)
    torch.set_num_threads(threads)
    try:
        assert_same(run_on("host", node, currents, True), expected)
        assert_same(run_on("host", node, currents[:, :300_000], True), run_on("torch", node, currents[:, :-1], True))
    finally:
        torch.set_num_threads(before)


def test_a_buffer_is_reused() -> None:
    node = OATNode(NORMAL, OUTLIER, 16, 15)
    x_seq = draw(4 * 50, 5, torch.float32).view(4, 50)
    buffer = torch.empty(16, 50)
    for backend in ("host", "torch"):
        node.backend = backend
        train = node.train_from(x_seq, out=buffer.fill_(7.0))[1]
        assert train.data_ptr() == buffer.data_ptr()
        assert same(train, node.train_from(x_seq)[1])
    for wrong in (torch.empty(15, 50), torch.empty(16, 50, dtype=torch.float64), torch.empty(50, 16).t()):
        with pytest.raises(ValueError, match="out must be contiguous"):
            node.train_from(x_seq, out=wrong)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tables_of_another_type(dtype: torch.dtype) -> None:
    """A model in double precision has its thresholds in it too; single inputs meet them in their own."""
    v = draw(1, 4, dtype).new_tensor([0.3, 0.8, 5.0])
    for node in (OATNode(NORMAL, OUTLIER, 16, 15), HGNode("gelu", 16)):
        wide = copy.deepcopy(node).double()
        expected = run_on("torch", wide, v[None], False)
        assert_same(run_on("host", wide, v[None], False), expected)
        assert_same(run_on("host", node, v[None], False), expected)


def test_thresholds_that_change_are_seen() -> None:
    node = OATNode(NORMAL, OUTLIER, 16, 15)
    x = torch.tensor([0.5, 7.0, 30.0])
    for value in (0.9, 3.0):
        node.theta_normal.data.fill_(value)
        expected = copy.deepcopy(node)
        expected.backend = "torch"
        assert same(node(x), expected(x))
    node.theta_normal = torch.nn.Parameter(torch.tensor(2.5), requires_grad=False)
    expected = copy.deepcopy(node)
    expected.backend = "torch"
    assert same(node(x), expected(x))
    gates = HGNode("gelu", 16, -8.0, 8.0)
    gates(x)
    gates.set_range(-8.0, 40.0)
    gates(x)
    assert gates.out_of_range == 1


def test_backends() -> None:
    node = MTNode(1.0, 8)
    assert node.backend == "auto"
    for backend in node.supported_backends:
        node.backend = backend
        assert same(node(torch.tensor([0.3])), MTNode(1.0, 8)(torch.tensor([0.3])))
    with pytest.raises(ValueError, match="backend must be one of auto, torch, host, cupy, got 'cuda'"):
        node.backend = "cuda"


ANNOUNCE = """
import logging, sys, torch
from las_sj.neurons import OATNode
node = OATNode(1.0, 4.0, 16, 15)
for backend in sys.argv[1:]:
    node.backend = backend
    for _ in range(3):
        assert torch.allclose(node(torch.tensor([0.3, 3.0])), torch.tensor([0.3, 3.0]), atol=1e-3)
"""


@pytest.mark.parametrize(
    ("compiler", "cache", "backends", "says"),
    [
        ("g++", "", ["auto", "host"], None),
        ("g++", "", ["cupy"], "backend 'cupy' does not work on tensors on cpu"),
        ("", "", ["auto", "host"], "without its faster kernels for processors: no C++ compiler was found"),
        ("broken", "", ["auto"], "without its faster kernels for processors"),
        ("$CXX", "", ["auto"], "$CXX names nonsense, which was not found"),
        ("g++", "/proc/nowhere", ["auto"], "without its faster kernels for processors"),
    ],
)
def test_fallback_is_announced_once(
    compiler: str, cache: str, backends: list[str], says: str | None, tmp_path: Path
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    if compiler == "broken":
        (tools / "g++").write_text("#!/bin/sh\necho 'cannot compile' >&2\nexit 1\n")
        (tools / "g++").chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "CXX"}
    environment |= {"LAS_SJ_CACHE": cache or str(tmp_path / "cache")}
    if compiler == "$CXX":
        environment["CXX"] = "nonsense -O1"
    elif compiler == "g++":
        environment["PATH"] = os.pathsep.join([str(quick_compiler(tools).parent), os.environ["PATH"]])
    else:
        environment["PATH"] = str(tools)
    result = run("-c", ANNOUNCE, *backends, environment=environment)
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stderr.splitlines() if "building kernels" not in line]
    assert len(lines) == (0 if says is None else 1)
    if says is not None:
        assert says in lines[0]
    kept = list((tmp_path / "cache").glob("*")) if (tmp_path / "cache").exists() else []
    built = {".sha256", ".so"} if compiler == "g++" and not cache and backends != ["cupy"] else set()
    assert {path.suffix for path in kept if path.name != ".lock"} == built


@pytest.mark.parametrize("kernels", [host, cuda_driver])
def test_files_that_are_compiled_are_known(kernels: ModuleType) -> None:
    """The compiler itself says what a source includes."""
    source = kernels.SOURCES / kernels.FILES[0]
    command = [*host.compiler(), "-std=c++17", "-MM", "-x", "c++", str(source)]
    rule = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    included = rule.replace("\\\n", " ").split(":", 1)[1].split()
    assert {Path(path) for path in included} == {kernels.SOURCES / name for name in kernels.FILES}


@pytest.mark.parametrize(("kernels", "key"), [(host, host._digest), (cuda_driver, cuda_driver.source.__wrapped__)])
def test_a_changed_file_is_compiled_again(
    kernels: ModuleType, key: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library's name, and the source that CuPy is given, change with every file that goes into them."""
    for name in kernels.FILES:
        shutil.copy(kernels.SOURCES / name, tmp_path)
    monkeypatch.setattr(kernels, "SOURCES", tmp_path)
    keys = [key()]
    for name in kernels.FILES:
        with (tmp_path / name).open("a", encoding="utf-8") as file:
            file.write("// changed\n")
        keys.append(key())
    assert len({*keys}) == 1 + len(kernels.FILES)


@pytest.mark.parametrize("shape", [(1,), (1, 8), (2, 1), (2, 8)])
def test_thresholds_that_torch_broadcasts(shape: tuple[int, ...]) -> None:
    node = MTNode(torch.linspace(1.0, 2.0, 16)[: torch.Size(shape).numel()].view(shape), 16, 15)
    expected = copy.deepcopy(node)
    expected.backend = "torch"
    x = draw(16, 0, torch.float32).view(2, 8)
    assert same(node(x), expected(x))


def test_thresholds_of_the_wrong_size_are_an_error() -> None:
    with pytest.raises(RuntimeError, match="size"):
        MTNode(torch.ones(3), 16, 15)(torch.randn(2, 8))


def test_tables_on_another_device_are_an_error() -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        OATNode(1.0, 2.0, 16, 15).to("meta")(torch.randn(4, 8))


def test_negative_views() -> None:
    x = torch.randn(8)
    assert same(OATNode(1.0, 2.0, 16, 15)(torch._neg_view(x)), OATNode(1.0, 2.0, 16, 15)(-x))


def test_a_damaged_library_is_built_again(tmp_path: Path) -> None:
    """Of zeros, it would end the process when it is called."""
    environment = os.environ | {"LAS_SJ_CACHE": str(tmp_path), "CXX": str(quick_compiler(tmp_path))}
    assert run("-c", ANNOUNCE, "host", environment=environment).returncode == 0
    (built,) = tmp_path.glob("*.so")
    whole = built.read_bytes()
    built.write_bytes(bytes(len(whole)))
    result = run("-c", ANNOUNCE, "host", environment=environment)
    assert result.returncode == 0, result.stderr
    assert "building kernels" in result.stderr
    assert len(built.read_bytes()) == len(whole)
    assert any(built.read_bytes())


def test_threads_share_a_node() -> None:
    node = OATNode(torch.linspace(0.5, 1.0, 512), 4.0, 16, 15)
    x = draw(64 * 512, 0, torch.float64).view(64, 512)  # the tables are fp32: each call copies them
    inputs = [x.float() if index % 2 else x * 2.0**-index for index in range(32)]
    with ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(node, inputs))
    assert all(same(y, node(v)) for y, v in zip(outputs, inputs, strict=True))
