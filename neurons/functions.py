"""The unary functions that HG neurons approximate, with what a proof of the error needs to know of each."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Unary = Callable[[Tensor], Tensor]
_LEAST = 2.0**-60  # of arguments of powers and logarithms


@dataclass(frozen=True)
class Tail:
    """Outside its core a function is replaced by the line intercept + slope·x."""

    intercept: float = 0.0
    slope: float = 0.0


@dataclass(frozen=True)
class GridFunction:
    """A function with all its curvature in a core interval and straight lines outside.

    Args:
        name: the key in `FUNCTIONS`.
        exact: the function, on tensors of any floating dtype.
        curvature: its second derivative.
        third: an upper bound of |f'''| over the core, so that |f''| between grid points is bounded too; 0 where
            f'' is monotone, since its ends bound it then.
        core: (low, high), multiples of 1/8; the lines of the tails differ from f by less than 2e-5 outside.
        below, above: the tails; None holds the value of the core's end.
        relative: whether the tolerance is relative to |f|.
        never_beyond: whether only rounding takes inputs beyond an end that is held, so that nobody need be warned.
        doubles_every: f(x + doubles_every) = 2·f(x), of exponentials; 0 of all others.
    """

    name: str
    exact: Unary
    curvature: Unary
    third: float
    core: tuple[float, float]
    below: Tail | None = Tail()
    above: Tail | None = Tail(slope=1.0)
    relative: bool = False
    never_beyond: bool = False
    doubles_every: float = 0.0

    @property
    def stops(self) -> bool:
        """Whether values are wrong beyond an end of the core, since the function does not go on along a line there."""
        return (self.below is None or self.above is None) and not self.never_beyond

    def range_for(self, low: float, high: float, headroom: float) -> tuple[float | None, float | None]:
        """The range to give a neuron for inputs from `low` to `high`: both ends are `headroom` times further out."""
        return low * headroom if low < 0 else low / headroom, high * headroom if high > 0 else high / headroom

    def __reduce__(self) -> tuple[Any, ...]:
        return _function_named, (self.name,)


@dataclass(frozen=True)
class OctaveFunction:
    """A power law or a logarithm: f(2^(period·e)·m) = 2^(gain·e)·f(m) + step·e, so one period's sub-neurons serve all.

    Args:
        name: the key in `FUNCTIONS`.
        exact: the function, for positive arguments; others may be taken for the least positive one, as neurons do.
        curvature: its second derivative, monotone and of one sign.
        period: octaves after which the parameters repeat.
        gain: octaves that f changes by in one period.
        even: whether f(−x) = f(x), with mirrored sub-neurons; otherwise only positive inputs are in range.
        step: what f grows by in one period, where it is a logarithm; its tolerance is absolute then, else relative.
    """

    name: str
    exact: Unary
    curvature: Unary
    period: int
    gain: int
    even: bool = False
    step: float = 0.0

    def range_for(self, low: float, high: float, headroom: float) -> tuple[float | None, float | None]:
        """The octaves to give a neuron for inputs from `low` to `high`; None leaves an end open.

        Arguments of powers are squares or their sums, which grow with the square of what they are made of.

        Raises:
            ValueError: it has values for negative numbers, which these neurons have not.
        """
        value, least = self.exact(torch.tensor([low, _LEAST])).tolist()
        if low < 0 and not self.even and math.isfinite(value) and abs(value - least) > _LEAST**0.5:
            raise ValueError(f"neurons for {self.name} take positive numbers only, and were given {low:.3g}")
        largest = max(abs(low), abs(high)) * headroom**2
        return max(low, _LEAST) / headroom**2 if low > 0 else None, min(largest or 1.0, 1 / _LEAST)

    def __reduce__(self) -> tuple[Any, ...]:
        return _function_named, (self.name,)


HGFunction = GridFunction | OctaveFunction


def register_function(function: HGFunction) -> HGFunction:
    """Make a function known under its name, for HG neurons of models and checkpoints.

    Raises:
        ValueError: another function has that name.
    """
    if FUNCTIONS.get(function.name, function) is not function:
        raise ValueError(f"there is another function named {function.name!r}: choose another name")
    FUNCTIONS[function.name] = function
    return function


def _function_named(name: str) -> HGFunction:
    """What a pickled or copied function is read back as."""
    return FUNCTIONS[name]


_INV_SQRT_2PI = 1 / math.sqrt(2 * math.pi)
_TANH_SCALE = math.sqrt(2 / math.pi)


def _second_derivative(function: Unary) -> Unary:
    """f'' by automatic differentiation, for element-wise f."""

    def curvature(x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (first,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
            (second,) = torch.autograd.grad(first.sum(), x)
        return second.detach()

    return curvature


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def _gelu_tanh(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(_TANH_SCALE * (x + 0.044715 * x**3)))


def _mish(x: Tensor) -> Tensor:
    return x * torch.tanh(F.softplus(x))


def _log(x: Tensor) -> Tensor:
    return torch.log(x.clamp(min=_LEAST))


FUNCTIONS: dict[str, HGFunction] = {
    function.name: function
    for function in (
        GridFunction(
            "gelu",
            F.gelu,
            lambda x: (2 - x * x) * torch.exp(-x * x / 2) * _INV_SQRT_2PI,
            third=0.9,
            core=(-6.0, 6.0),
        ),
        GridFunction(
            "gelu_tanh",
            lambda x: F.gelu(x, approximate="tanh"),
            _second_derivative(_gelu_tanh),
            third=1.0,
            core=(-6.0, 6.0),
        ),
        GridFunction(
            "gelu_10",
            lambda x: F.gelu(x).clamp(-10.0, 10.0),
            lambda x: (2 - x * x) * torch.exp(-x * x / 2) * _INV_SQRT_2PI,
            third=0.9,
            core=(-6.0, 10.0),
            above=Tail(10.0),
        ),
        GridFunction(
            "quick_gelu",
            _quick_gelu,
            _second_derivative(_quick_gelu),
            third=1.1,
            core=(-10.0, 10.0),
        ),
        GridFunction("silu", F.silu, _second_derivative(lambda x: x * torch.sigmoid(x)), third=0.4, core=(-16.0, 16.0)),
        GridFunction("relu", F.relu, torch.zeros_like, third=0.0, core=(0.0, 0.125)),
        GridFunction(
            "tanh",
            torch.tanh,
            lambda x: -2 * torch.tanh(x) / torch.cosh(x) ** 2,
            third=2.1,
            core=(-7.0, 7.0),
            below=Tail(-1.0),
            above=Tail(1.0),
        ),
        GridFunction(
            "exp",
            torch.exp,
            torch.exp,
            third=0.0,
            core=(-20.0, 0.0),
            below=Tail(),
            above=None,
            relative=True,
            never_beyond=True,  # softmax subtracts the largest score
            doubles_every=math.log(2),
        ),
        GridFunction(
            "exp_wide",
            torch.exp,
            torch.exp,
            third=0.0,
            core=(-20.0, 20.0),
            below=Tail(),
            above=None,
            relative=True,
            doubles_every=math.log(2),
        ),
        GridFunction(
            "sigmoid",
            torch.sigmoid,
            lambda x: torch.sigmoid(x) * torch.sigmoid(-x) * (torch.sigmoid(-x) - torch.sigmoid(x)),
            third=0.13,
            core=(-16.0, 16.0),
            above=Tail(1.0),
        ),
        GridFunction(
            "softplus", F.softplus, lambda x: torch.sigmoid(x) * torch.sigmoid(-x), third=0.1, core=(-16.0, 16.0)
        ),
        GridFunction("mish", _mish, _second_derivative(_mish), third=0.6, core=(-16.0, 16.0)),
        GridFunction(
            "erf",
            torch.erf,
            lambda x: -4 * x * torch.exp(-x * x) / math.sqrt(math.pi),
            third=2.3,
            core=(-4.0, 4.0),
            below=Tail(-1.0),
            above=Tail(1.0),
        ),
        GridFunction("sin", torch.sin, lambda x: -torch.sin(x), third=1.01, core=(-32.0, 32.0), below=None, above=None),
        GridFunction("cos", torch.cos, lambda x: -torch.cos(x), third=1.01, core=(-32.0, 32.0), below=None, above=None),
        OctaveFunction("reciprocal", torch.reciprocal, lambda x: 2 / x**3, period=1, gain=-1),
        OctaveFunction("rsqrt", torch.rsqrt, lambda x: 0.75 * x**-2.5, period=2, gain=-1),
        OctaveFunction("sqrt", lambda x: torch.sqrt(x.clamp(min=0)), lambda x: -0.25 * x**-1.5, period=2, gain=1),
        OctaveFunction("square", torch.square, lambda x: torch.full_like(x, 2.0), period=1, gain=2, even=True),
        OctaveFunction("log", _log, lambda x: -1 / x**2, period=1, gain=0, step=math.log(2)),
    )
}
