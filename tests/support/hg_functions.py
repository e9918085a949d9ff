"""The functions of HG neurons by kind, and inputs for them, for tests."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from las_sj.neurons import FUNCTIONS, HGNode
from las_sj.neurons.functions import GridFunction, OctaveFunction

DTYPES = (torch.float32, torch.float64)
HALF = (torch.float16, torch.bfloat16)
GRID = [name for name, function in FUNCTIONS.items() if isinstance(function, GridFunction)]
OCTAVE = [name for name, function in FUNCTIONS.items() if isinstance(function, OctaveFunction)]
POWERS = [name for name in OCTAVE if name != "log"]
RELATIVE = ["exp", "exp_wide", *POWERS]
ACTIVATIONS = ["gelu", "gelu_tanh", "quick_gelu", "silu", "tanh", "sigmoid", "softplus", "mish", "erf"]
TIME_STEPS = (4, 8, 12, 16, 24)

shapes = st.lists(st.integers(0, 5), min_size=1, max_size=3)
seeds = st.integers(0, 2**32 - 1)


def grid_function(name: str) -> GridFunction:
    function = FUNCTIONS[name]
    assert isinstance(function, GridFunction)
    return function


def octave_function(name: str) -> OctaveFunction:
    function = FUNCTIONS[name]
    assert isinstance(function, OctaveFunction)
    return function


def dense(low: float, high: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.linspace(low, high, 50_001, dtype=dtype)


def octaves(bottom: float, top: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.exp2(torch.linspace(bottom, top, 50_001, dtype=torch.float64)).to(dtype)


def draw_inputs(node: HGNode, shape: list[int], seed: int, dtype: torch.dtype) -> Tensor:
    """Values in and around the range, break points and their neighbours, extremes."""
    generator = torch.Generator().manual_seed(seed)
    starts = node.gates.fit.lines.start.to(dtype)
    special = torch.cat([starts, torch.tensor([0.0, node.low, node.high, 1e-40, 1e30, torch.inf], dtype=dtype)])
    special = torch.cat([special, torch.nextafter(special, special + 1), torch.nextafter(special, special - 1)])
    special = torch.cat([special, -special])
    picked = special[torch.randint(len(special), shape, generator=generator)]
    uniform = (torch.rand(shape, generator=generator, dtype=dtype) * 2 - 1) * min(2 * node.high + 20, 40)
    return torch.where(torch.rand(shape, generator=generator) < 0.4, picked, uniform)
