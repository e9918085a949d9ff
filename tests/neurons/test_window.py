"""What all neurons share: the window, SpikingJelly's tools, counters, calibration hooks."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from spikingjelly.activation_based import base, functional, monitor
from spikingjelly.activation_based.neuron import FewSpikeTable
from torch import Tensor, nn

from las_sj.neurons import FSNode, HGNode, MTNode, OATNode, WindowNode, WindowRecord

T = 8
TABLE = 2.0 ** -torch.arange(1, T + 1)
BUILDERS: dict[str, Callable[[], WindowNode]] = {
    "fs": lambda: FSNode(FewSpikeTable(TABLE, TABLE, TABLE)),
    "mt": lambda: MTNode(2.0, T, levels=3),
    "mt-channel": lambda: MTNode(torch.tensor([0.5, 1.0, 2.0]), T),
    "oat": lambda: OATNode(0.5, 4.0, T, levels=3, max_spikes=2),
    "hg-grid": lambda: HGNode("gelu", T),
    "hg-octave": lambda: HGNode("square", T),
}


@pytest.fixture(params=list(BUILDERS))
def node(request: pytest.FixtureRequest) -> WindowNode:
    return BUILDERS[request.param]()


@pytest.fixture
def x() -> Tensor:
    values = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    return (values * 1024).round() / 1024  # so that sums are exact


@pytest.fixture
def currents(x: Tensor) -> Tensor:
    """Five steps of input that sum to x."""
    return torch.stack([x / 2, x, -x, x / 4, x / 4])


def test_is_a_memory_module(node: WindowNode) -> None:
    assert isinstance(node, base.MemoryModule)
    expected = ("torch",) if isinstance(node, FSNode) else ("auto", "torch", "host", "cupy")
    assert node.supported_backends == expected
    assert node.step_mode == "s"
    with pytest.raises(ValueError, match="step_mode"):
        node.step_mode = "x"


def test_any_number_of_input_steps(node: WindowNode, x: Tensor, currents: Tensor) -> None:
    node.step_mode = "m"
    train = node(currents)
    assert train.shape == (T, 4, 3)
    assert torch.equal(train, node(x[None]))
    assert torch.equal(train, node(currents))  # every call is a window of its own
    with pytest.raises(ValueError, match="at least one time step"):
        node(currents[:0])


def test_set_step_mode(node: WindowNode, x: Tensor) -> None:
    net = nn.Sequential(node, BUILDERS["mt"]())
    functional.set_step_mode(net, "m")
    assert net(x[None]).shape == (T, 4, 3)
    functional.set_step_mode(net, "s")
    assert net(x).shape == (4, 3)


def test_membrane_is_released(node: WindowNode, x: Tensor) -> None:
    node(x)
    assert node.v == 0.0
    node.step_mode = "m"
    node(x[None])
    assert node.v == 0.0
    assert node.v_seq is None


def test_reset_net(node: WindowNode, x: Tensor) -> None:
    node.store_v_seq = True
    node(x)
    assert isinstance(node.v, Tensor)
    functional.reset_net(nn.Sequential(node))
    assert node.v == 0.0


def test_v_seq(node: WindowNode, x: Tensor, currents: Tensor) -> None:
    node.store_v_seq, node.step_mode = True, "m"
    train = node(currents)
    assert node.v_seq is not None
    for t in range(T):
        torch.testing.assert_close(node.v_seq[t], x - train[: t + 1].sum(0))
    torch.testing.assert_close(node.v, node.v_seq[-1])


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_monitors(node: WindowNode, x: Tensor, step_mode: str) -> None:
    net = nn.Sequential(nn.Identity(), node)
    functional.set_step_mode(net, step_mode)
    window = x[None] if step_mode == "m" else x
    with (
        monitor.AttributeMonitor("v", False, net, WindowNode) as potentials,
        monitor.OutputMonitor(net, WindowNode) as outputs,
    ):
        expected = [net(window), net(2 * window)]
    assert len(outputs.records) == len(potentials["1"]) == 2
    for index, y in enumerate(expected):
        total = y.sum(0) if step_mode == "m" else y
        assert torch.equal(outputs.records[index], y)
        torch.testing.assert_close(potentials.records[index], (index + 1) * x - total)
    net(window)
    assert node.v == 0.0
    assert len(outputs.records) == 2


def test_v_is_that_of_the_window(x: Tensor) -> None:
    """MT with "floor" rounding leaves the part of the potential below the last threshold."""
    node = MTNode(1.0, 4, rounding="floor")
    node.store_v_seq = True
    node(torch.tensor([0.3, -0.3]))
    torch.testing.assert_close(node.v, torch.tensor([0.05, -0.05]))


def test_deepcopy(node: WindowNode, x: Tensor) -> None:
    node(x)
    clone = copy.deepcopy(node)
    assert torch.equal(clone(x), node(x))
    before = node(x)
    for tensor in (*clone.parameters(), *clone.buffers()):
        tensor.zero_()
    assert torch.equal(node(x), before)


def test_state_dict_round_trip(node: WindowNode, x: Tensor) -> None:
    buffer = io.BytesIO()
    torch.save(node.state_dict(), buffer)
    buffer.seek(0)
    other = copy.deepcopy(node)
    for tensor in (*other.parameters(), *other.buffers()):
        tensor.zero_()
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(other(x), node(x))


@pytest.mark.parametrize("name", ["fs", "mt", "oat"])
def test_pickle(name: str, x: Tensor) -> None:
    node = BUILDERS[name]()
    assert torch.equal(pickle.loads(pickle.dumps(node))(x), node(x))


def test_double(node: WindowNode, x: Tensor) -> None:
    y = node(x)
    assert node.double()(x.double()).dtype == torch.float64
    torch.testing.assert_close(node(x.double()).float(), y, atol=0.02, rtol=0.02)  # one step of the code


def test_spike_count(node: WindowNode, x: Tensor) -> None:
    node(x)
    assert node.spike_count is None
    node.count_spikes = True
    node(x)
    assert node.spike_count is not None
    assert node.spike_count.shape == x.shape
    assert node.spike_count.dtype == torch.int8
    single = node.spike_count
    assert single.max() > 0
    node.step_mode = "m"
    node(x[None])
    assert torch.equal(node.spike_count, single)
    node(torch.zeros(1, 4, 3))
    assert not torch.equal(node.spike_count, single)  # that of the last window only
    node.reset_counts()
    assert node.spike_count is None


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize(
    ("node", "x", "count"),
    [
        (MTNode(1.0, 4, rounding="floor"), 0.8125, 3),  # 0.1101
        (MTNode(1.0, 4, rounding="floor"), -1.0, 4),  # 0.1111
        (MTNode(1.0, 4, rounding="floor", max_spikes=2), 0.8125, 2),
        (MTNode(1.0, 4), 0.4375, 2),  # 1/2 − 1/16
        (MTNode(1.0, 4), 0.03, 0),
        (OATNode(1.0, 16.0, 4, levels=4, rounding="floor"), 15.0, 2),  # 14 + 1
        (HGNode("relu", 4), (100 + 0.8125) / 256, 3),  # tails of 1/256 each
        (FSNode(FewSpikeTable([1.0, 1.0], [0.5, 0.5], [1.0, 0.0])), 1.5, 2),
    ],
    ids=str,
)
def test_spike_count_by_hand(node: WindowNode, x: float, count: int, step_mode: str) -> None:
    node = copy.deepcopy(node)
    node.count_spikes, node.step_mode = True, step_mode
    node(torch.tensor([[x]]))
    assert node.spike_count is not None
    assert node.spike_count.flatten().tolist() == [count]


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_reset_counts(step_mode: str) -> None:
    node = MTNode(1.0, 8, step_mode=step_mode)
    for expected in (2, 4):
        node(torch.tensor([[2.0, -3.0, 0.5]]))
        assert node.out_of_range == expected
    functional.reset_net(node)
    assert node.out_of_range == 4  # a counter over windows, no state of one
    node.reset_counts()
    assert node.out_of_range == 0


@pytest.mark.parametrize(
    ("node", "exact"),
    [(MTNode(1.0, T), torch.clone), (OATNode(1.0, 2.0, T), torch.clone), (HGNode("tanh", T), torch.tanh)],
    ids=("mt", "oat", "hg"),
)
def test_bypass(node: WindowNode, exact: Callable[[Tensor], Tensor], currents: Tensor) -> None:
    node = copy.deepcopy(node)
    node.bypass = True
    x = currents.sum(0)
    assert torch.equal(node(x), exact(x))
    node.step_mode = "m"
    train = node(currents)
    assert train.shape == currents.shape  # as many steps as came in
    torch.testing.assert_close(train.sum(0), exact(x))
    assert node.out_of_range == 0


@pytest.mark.parametrize("bypass", [False, True])
def test_observer_sees_the_window(node: WindowNode, x: Tensor, currents: Tensor, bypass: bool) -> None:
    seen: list[Tensor] = []
    node.observer, node.bypass = seen.append, bypass
    node(x.clone().requires_grad_())
    node.step_mode = "m"
    node(currents)
    assert len(seen) == 2
    assert all(torch.equal(v, x) and not v.requires_grad for v in seen)


def test_recorder_sees_what_was_emitted(node: WindowNode, x: Tensor) -> None:
    seen: list[tuple[WindowNode, WindowRecord]] = []
    node.recorder = lambda *told: seen.append(told)
    y = node(x)
    node.step_mode = "m"
    train = node(x[None])
    assert [told[0] for told in seen] == [node, node]
    assert all(torch.equal(record.potential, x) for _, record in seen)
    assert torch.equal(seen[0][1].emitted, y)
    assert torch.equal(seen[1][1].emitted, train)


@pytest.mark.parametrize("time_steps", [0, -1, 1.5, True, "8"])
def test_bad_time_steps(time_steps: object) -> None:
    with pytest.raises(ValueError, match="time_steps"):
        WindowNode(time_steps)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("mt", ["T=8", "step_mode=s", "levels=3", "nearest", "max_spikes=None"]),
        ("oat", ["T=8", "max_spikes=2"]),
        ("hg-grid", ["gelu", "T=8", "sub_neurons=", "range=(-6, 6)"]),
    ],
)
def test_repr_shows_the_settings(name: str, parts: list[str]) -> None:
    text = repr(BUILDERS[name]())
    assert all(part in text for part in parts)
