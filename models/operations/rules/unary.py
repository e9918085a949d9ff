"""Functions of one value: by HG neurons, or composed of some."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from las_sj.models.operations.operation import Operation
from las_sj.models.operations.registry import composite, rule
from las_sj.models.operations.time_axis import time_axis_of

_BOUND = 1e4  # what lies beyond it is no bound, but stands for infinity


@rule("relu silu tanh exp sigmoid erf mish log sin cos sqrt rsqrt square reciprocal")
def by_neurons(op: Operation, input: Tensor) -> Tensor:
    """A function that HG neurons know by its own name."""
    return op.fire(op.name, input)


@rule("gelu")
def gelu(op: Operation, input: Tensor, approximate: str = "none") -> Tensor:
    """GELU, exact or by tanh."""
    return op.fire("gelu_tanh" if approximate == "tanh" else "gelu", input)


@rule("softplus")
def softplus(op: Operation, input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """log(1 + exp(β·x))/β."""
    axis = op.axis(input)
    scaled = input if beta == 1 else op.current(input * beta, axis)
    output = op.fire("softplus", scaled)
    return output if beta == 1 else op.current(output / beta, axis)


@composite("special_expit")
def expit(input: Tensor) -> Tensor:
    """Another name of the sigmoid."""
    return torch.sigmoid(input)


@composite("logsigmoid", "log_sigmoid")
def log_sigmoid(input: Tensor) -> Tensor:
    """log σ(x)."""
    return -F.softplus(-input)


@composite("glu")
def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half times the sigmoid of the second."""
    value, gate = input.chunk(2, dim)
    return value * torch.sigmoid(gate)


@composite("abs", "absolute", "__abs__")
def absolute(input: Tensor) -> Tensor:
    """relu(x) + relu(−x)."""
    return F.relu(input) + F.relu(-input)


@composite("expm1", "special_expm1")
def expm1(input: Tensor) -> Tensor:
    """exp(x) − 1."""
    return torch.exp(input) - 1.0


@composite("log1p", "special_log1p")
def log1p(input: Tensor) -> Tensor:
    """log(1 + x)."""
    return torch.log(input + 1.0)


@composite("exp2", "special_exp2")
def exp2(input: Tensor) -> Tensor:
    """2^x."""
    return torch.exp(input * math.log(2))


@composite("log2")
def log2(input: Tensor) -> Tensor:
    """The binary logarithm."""
    return torch.log(input) / math.log(2)


@composite("log10")
def log10(input: Tensor) -> Tensor:
    """The decimal logarithm."""
    return torch.log(input) / math.log(10)


@composite("tan")
def tan(input: Tensor) -> Tensor:
    """sin(x)/cos(x), where the cosine is positive."""
    return torch.sin(input) / torch.cos(input)


@composite("cosh")
def cosh(input: Tensor) -> Tensor:
    """(exp(x) + exp(−x))/2."""
    return (torch.exp(input) + torch.exp(-input)) / 2


@composite("sinh")
def sinh(input: Tensor) -> Tensor:
    """(exp(x) − exp(−x))/2."""
    return (torch.exp(input) - torch.exp(-input)) / 2


@composite("asinh", "arcsinh")
def asinh(input: Tensor) -> Tensor:
    """log(|x| + √(x² + 1)) with the sign of x."""
    return _asinh_of_positive(F.relu(input)) - _asinh_of_positive(F.relu(-input))


def _asinh_of_positive(x: Tensor) -> Tensor:
    return torch.log(x + torch.sqrt(torch.square(x) + 1.0))


@composite("elu")
def elu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """x for x > 0, else α(exp(x) − 1)."""
    return F.relu(input) + (torch.exp(-F.relu(-input)) - 1.0) * alpha


@composite("celu")
def celu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """x for x > 0, else α(exp(x/α) − 1)."""
    return F.relu(input) + (torch.exp(-F.relu(-input) / alpha) - 1.0) * alpha


@composite("selu")
def selu(input: Tensor) -> Tensor:
    """ELU with the constants of self-normalising networks."""
    return F.elu(input, 1.6732632423543772) * 1.0507009873554805


@composite("leaky_relu", "rrelu")
def leaky_relu(input: Tensor, negative_slope: float = 0.01, *args: Any, **kwargs: Any) -> Tensor:
    """x for x > 0, else a multiple of it."""
    return F.relu(input) - F.relu(-input) * negative_slope


@composite("prelu")
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """Leaky ReLU with a slope for each channel."""
    slope = weight.view(1, -1, *[1] * (input.dim() - 2)) if weight.numel() > 1 else weight
    return F.relu(input) - F.relu(-input) * slope


@composite("relu6")
def relu6(input: Tensor) -> Tensor:
    """Between 0 and 6."""
    return torch.clamp(input, 0.0, 6.0)


@composite("hardtanh")
def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """Between two bounds."""
    return torch.clamp(input, min_val, max_val)


@composite("hardsigmoid")
def hardsigmoid(input: Tensor) -> Tensor:
    """x/6 + 1/2 between 0 and 1."""
    return torch.clamp(input / 6 + 0.5, 0.0, 1.0)


@composite("hardswish")
def hardswish(input: Tensor) -> Tensor:
    """x times its hard sigmoid."""
    return input * F.hardsigmoid(input)


@composite("softsign")
def softsign(input: Tensor) -> Tensor:
    """x/(1 + |x|)."""
    return input / (torch.abs(input) + 1.0)


@composite("tanhshrink")
def tanhshrink(input: Tensor) -> Tensor:
    """x − tanh(x)."""
    return input - torch.tanh(input)


@composite("softshrink")
def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x brought nearer to 0 by λ."""
    return F.relu(input - lambd) - F.relu(-input - lambd)


@composite("clamp", "clip")
def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Between two bounds, numbers or tensors; those beyond 10⁴ stand for none."""
    output = input * 1.0
    if _is_bound(min):
        output = torch.maximum(output, _as_tensor(min, input))
    return torch.minimum(output, _as_tensor(max, input)) if _is_bound(max) else output


@composite("clamp_min")
def clamp_min(input: Tensor, min: Any) -> Tensor:
    """At least a bound."""
    return torch.clamp(input, min=min)


@composite("clamp_max")
def clamp_max(input: Tensor, max: Any) -> Tensor:
    """At most a bound."""
    return torch.clamp(input, max=max)


def _is_bound(bound: Any) -> bool:
    if isinstance(bound, Tensor) and (bound.numel() != 1 or time_axis_of(bound) is not None):
        return True
    return bound is not None and abs(float(bound)) < _BOUND


def _as_tensor(bound: Any, like: Tensor) -> Tensor:
    return bound if isinstance(bound, Tensor) else like.new_full((), bound)


@composite("maximum", "fmax")
def maximum(input: Tensor, other: Tensor) -> Tensor:
    """b + relu(a − b)."""
    unbounded = [(a, b) for a, b in ((input, other), (other, input)) if not _is_bound(b)]
    return unbounded[0][0] * 1.0 if unbounded else other + F.relu(input - other)


@composite("minimum", "fmin")
def minimum(input: Tensor, other: Tensor) -> Tensor:
    """b − relu(b − a)."""
    unbounded = [(a, b) for a, b in ((input, other), (other, input)) if not _is_bound(b)]
    return unbounded[0][0] * 1.0 if unbounded else other - F.relu(other - input)


@composite("logaddexp")
def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """log(exp(a) + exp(b)) = a + softplus(b − a)."""
    return input + F.softplus(other - input)
