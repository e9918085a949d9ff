"""Tokens that are sorted by what was decided of them: time steps come in another order, or time and time again."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import las_sj
from las_sj.models.operations.sorting import sorted_like_one_step
from las_sj.models.operations.time_axis import TimeAxis, Timeline

EXPERTS, CHOSEN = 3, 2


class Experts(nn.Module):
    """Each token goes to some experts, in a way of its own."""

    def __init__(self, way: Callable[["Experts", Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.way = way
        self.router = nn.Linear(8, EXPERTS)
        self.weight = nn.Parameter(torch.randn(EXPERTS, 8, 8) / 8**0.5)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        gates, experts = self.router(flat).softmax(-1).topk(CHOSEN, dim=-1)
        return self.way(self, flat, gates, experts).view(x.shape)


def one_by_one(module: Experts, x: Tensor, gates: Tensor, experts: Tensor) -> Tensor:
    """As DBRX and LongCat-Flash do."""
    mask, output = nn.functional.one_hot(experts, EXPERTS).permute(2, 1, 0), torch.zeros_like(x)
    for expert in range(EXPERTS):
        choice, token = torch.where(mask[expert])
        states = torch.tanh(nn.functional.linear(x[token], module.weight[expert]))
        output.index_add_(0, token, states * gates[token, choice, None])
    return output


def sorted_by_expert(module: Experts, x: Tensor, gates: Tensor, experts: Tensor) -> Tensor:
    """As JetMoE does."""
    sizes = nn.functional.one_hot(experts, EXPERTS).sum((0, 1)).tolist()
    order = experts.flatten().sort(0)[1]
    token = order.div(CHOSEN, rounding_mode="trunc")
    parts = x[token].split(sizes, dim=0)
    states = torch.cat([nn.functional.linear(part, w) for part, w in zip(parts, module.weight, strict=True)])
    states = torch.tanh(states) * gates.flatten()[order, None]
    return torch.zeros_like(x).index_add(0, token, states)


@pytest.mark.parametrize("way", [one_by_one, sorted_by_expert])
@torch.no_grad()
def test_experts_that_sort_tokens(way: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    ann, x = Experts(way).eval(), torch.randn(2, 7, 8)
    snn = las_sj.convert(copy.deepcopy(ann), las_sj.LASConfig(headroom=2.0), [{"x": x}])
    for execution in ("accumulated", "temporal"):
        las_sj.set_execution(snn, execution)
        assert float((snn(x) - ann(x)).norm() / ann(x).norm()) < 3e-4


ORDERED = TimeAxis(1, 1, (0, 1, 1, 0, 1, 0))  # of two steps


def test_arithmetic_with_time_in_any_order() -> None:
    time, x = Timeline(2), torch.randn(4, 6)
    steps = [x[:, [0, 3, 5]], x[:, [1, 2, 4]]]
    assert torch.equal(time.window(x, ORDERED), torch.stack([step.T for step in steps]))
    assert torch.equal(time.closed(time.window(x, ORDERED), ORDERED), x)
    assert torch.equal(time.total(x, ORDERED), steps[0] + steps[1])
    assert torch.equal(time.total(time.repeated(steps[0], ORDERED), ORDERED), 2 * steps[0])
    assert torch.equal(time.running(x, ORDERED)[:, [1, 2, 4]], steps[0] + steps[1])
    assert time.after_view((4, 6), ORDERED, (2, 2, 6)) == ORDERED.at(2)
    assert time.after_view((4, 6), ORDERED, (24,)) is None


def test_orders_that_are_not_those_of_all_steps() -> None:
    time, numbers = Timeline(2), torch.tensor([5, 7, 5, 7])
    assert time.order_in(torch.tensor([0.0, 0.0, 1.0, 1.0]), numbers) == TimeAxis(0, 1, (0, 0, 1, 1))
    assert time.order_in(torch.tensor([0.0, 1.0, 1.0, 0.0]), numbers) is None  # 5, 7 and then 7, 5
    assert time.order_in(torch.tensor([0.0, 1.0, 1.0, 1.0]), numbers) is None


def test_sorting_what_is_the_same_at_each_step() -> None:
    row = torch.randint(0, 3, (50,), generator=torch.Generator().manual_seed(0))
    found = sorted_like_one_step("sort", torch.sort, (row.repeat(4), 0), {}, 4)
    assert found is not None
    values, places = found
    assert torch.equal(values, row.repeat(4).sort()[0])
    assert torch.equal(places.sort()[0], torch.arange(200))
    assert torch.equal(row.repeat(4)[places], values)
    orders = [places[places // 50 == step] % 50 for step in range(4)]
    assert all(torch.equal(order, row.sort(0)[1]) for order in orders)
    assert sorted_like_one_step("sort", torch.sort, (torch.arange(8), 0), {}, 4) is None
    assert sorted_like_one_step("flip", torch.flip, (row.repeat(4), 0), {}, 4) is None
