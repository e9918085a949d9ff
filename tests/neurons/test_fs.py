"""FSNode against its definition and against SpikingJelly's FewSpikeNode."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spikingjelly.activation_based import surrogate
from spikingjelly.activation_based.neuron import FewSpikeNode, FewSpikeTable

from las_sj.neurons import FSNode

DTYPES = (torch.float32, torch.float64)
finite = st.floats(-4, 4, width=32)


@st.composite
def tables(draw: st.DrawFn, dtype: torch.dtype) -> FewSpikeTable:
    length = draw(st.integers(1, 8))
    theta, h, d = (draw(st.lists(finite, min_size=length, max_size=length)) for _ in range(3))
    return FewSpikeTable(*(torch.tensor(values, dtype=dtype) for values in (theta, h, d)))


def binary_table(time_steps: int, alpha: float, dtype: torch.dtype = torch.float32) -> FewSpikeTable:
    powers = alpha * 2.0 ** -torch.arange(1, time_steps + 1, dtype=dtype)
    return FewSpikeTable(powers, powers, powers)


@given(st.sampled_from(DTYPES), st.data())
def test_equals_spikingjelly(dtype: torch.dtype, data: st.DataObject) -> None:
    table = data.draw(tables(dtype))
    hard = st.sampled_from([*table.theta.tolist(), 0.0, 1e30, -1e30, torch.inf, -torch.inf, torch.nan])
    values = data.draw(st.lists(st.one_of(hard, finite), max_size=8))
    x = torch.tensor(values, dtype=dtype)
    currents = torch.zeros(table.K, *x.shape, dtype=dtype)
    currents[0] = x  # SpikingJelly's node takes K steps of input
    train = FSNode(table, step_mode="m")(currents)
    assert train.dtype == dtype
    assert torch.equal(train, FewSpikeNode(table, step_mode="m")(currents))
    assert torch.equal(FSNode(table)(x), FewSpikeNode(table)(x))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0, 3), (2, 3, 4)])
def test_sum_of_train(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    single, multi = FSNode(binary_table(8, 1.0)), FSNode(binary_table(8, 1.0), step_mode="m")
    single.count_spikes = multi.count_spikes = True
    y, train = single(x), multi(x.expand(3, *shape) / 4 + torch.zeros(3, *shape))
    assert y.shape == shape
    assert train.shape == (8, *shape)
    assert torch.equal(y, (x * 256).floor() / 256)
    assert torch.equal(train.sum(0), (x * 192).floor() / 256)
    assert single.spike_count is not None
    assert single.spike_count.shape == shape


def test_by_hand() -> None:
    """θ = (1, 1), h = (2, 0.5), d = (10, 1): v = 1.5 fires, is left with −0.5 and stays silent; v = 3 fires twice."""
    node = FSNode(FewSpikeTable([1.0, 1.0], [2.0, 0.5], [10.0, 1.0]), step_mode="m")
    node.count_spikes = node.store_v_seq = True
    train = node(torch.tensor([[0.5, 1.5, 3.0], [0.0, 0.0, 0.0]]))
    assert train.tolist() == [[0, 10, 10], [0, 0, 1]]
    assert node.spike_count is not None
    assert node.spike_count.tolist() == [0, 1, 2]


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_gradient_of_the_surrogate(step_mode: str) -> None:
    table, function = binary_table(4, 1.0, torch.float64), surrogate.ATan()
    x = torch.linspace(-1, 2, 13, dtype=torch.float64)
    gradients = []
    for node in (FSNode(table, function, step_mode), FewSpikeNode(table, function, step_mode)):
        current = (x.expand(4, 13) / 4 if step_mode == "m" else x).clone().requires_grad_()
        node(current).sum().backward()
        assert current.grad is not None
        gradients.append(current.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-12, atol=0)
    assert gradients[0].abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_holds_values_only(dtype: torch.dtype) -> None:
    x = torch.linspace(0, 1, 100).to(dtype)
    node = FSNode(binary_table(8, 1.0))
    assert node(x).dtype == dtype
    assert torch.equal(node(x), node(x.float()).to(dtype))


def test_tables_are_copied() -> None:
    table = binary_table(4, 1.0)
    node = FSNode(table)
    table.theta.zero_()
    assert set(node.state_dict()) == {"theta", "h", "d"}
    assert node.theta.tolist() == [0.5, 0.25, 0.125, 0.0625]
