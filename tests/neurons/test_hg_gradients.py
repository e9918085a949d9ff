"""HGNode: gradients are slopes of its sub-neurons."""

import pytest
import torch
from hg_functions import (
    GRID,
    RELATIVE,
    dense,
    grid_function,
    octaves,
)
from torch import Tensor

from las_sj.neurons import FUNCTIONS, HGNode
from las_sj.neurons.functions import GridFunction


def slopes(node: HGNode, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    y = node(x) if node.step_mode == "s" else node(torch.stack([x / 4, x * 3 / 4]))
    weight = torch.arange(1, len(x) + 1, dtype=x.dtype)
    (gradient,) = torch.autograd.grad((y * weight).sum(), x)
    return gradient / weight


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("name", GRID)
def test_gradient_is_the_slope_of_the_sub_neuron(name: str, step_mode: str) -> None:
    function, node = grid_function(name), HGNode(name, 16, step_mode=step_mode)
    low, high = function.core
    x = torch.rand(500, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * (high - low) + low
    lines = node.gates.fit.lines
    m = torch.searchsorted(lines.start, x + lines.shift[0]) - 1
    torch.testing.assert_close(slopes(node, x), (lines.amplitude / lines.width)[m], rtol=1e-6, atol=1e-9)
    tails = slopes(node, torch.tensor([low - 1, low - 1e3, high + 1, high + 1e3], dtype=torch.float64))
    below = function.below.slope if function.below else 0.0
    above = function.above.slope if function.above else 0.0
    assert tails.tolist() == pytest.approx([below, below, above, above], abs=1e-12)


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_gradient_is_close_to_the_derivative(name: str, step_mode: str) -> None:
    function, node = FUNCTIONS[name], HGNode(name, 16, step_mode=step_mode)
    x = octaves(-6, 6)
    if isinstance(function, GridFunction):
        x = dense(*function.core)
    elif function.even:
        x = torch.cat([x, -x])
    exact = x.clone().requires_grad_()
    (derivative,) = torch.autograd.grad(function.exact(exact).sum(), exact)
    relative = name in RELATIVE or name == "log"
    # A chord within 1e-5 of f has a slope within about √(2e-5·|f''|) of f'.
    error = (slopes(node, x) - derivative).abs()[1:-1] / (derivative.abs() if relative else 1.0 + 0 * x)[1:-1]
    assert error.max() < 0.01
    assert error.max() > 0 or name == "relu"


def test_gradient_in_half_precision() -> None:
    x = torch.tensor([-1.0, 0.5, 20.0], dtype=torch.float16, requires_grad=True)
    (gradient,) = torch.autograd.grad(HGNode("gelu", 12)(x).sum(), x)
    assert gradient.dtype == torch.float16
    torch.testing.assert_close(gradient, torch.tensor([-0.0833, 0.8673, 1.0]).half(), atol=0.01, rtol=0)
