"""Norms that modelling code writes in single operations: a module is taken for one only if it computes one on noise."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from las_sj.models.layers.spiking_layer import KnowsCalls
from las_sj.models.operations.scope import active
from las_sj.neurons import watching
from las_sj.neurons.precision import single

_LARGEST_EPSILON = 0.1
_TOLERANCE = 1e-5  # of the norm of the output: rounding in single precision is a hundredth of it


@dataclass(frozen=True)
class NormForm:
    """Which norm over the last dimension a module computes.

    Args:
        gains: name of the parameter that holds γ.
        adds_one: whether γ is that parameter plus one.
        centres: whether the mean is subtracted, and a bias added if there is one: LayerNorm, otherwise RMSNorm.
        epsilon: ε, which the mean of squares is added to.
    """

    gains: str
    adds_one: bool
    centres: bool
    epsilon: float

    def of(self, module: nn.Module, x: Tensor) -> Tensor:
        """What the module should compute of x [..., C], by the functions of torch that have rules."""
        gains = getattr(module, self.gains)
        gains = (1.0 + gains if self.adds_one else gains).to(x.dtype)
        if not self.centres:
            return F.rms_norm(x, gains.shape, gains, self.epsilon)
        bias = watching.parameters_of(module).get("bias")
        return F.layer_norm(x, gains.shape, gains, None if bias is None else bias.to(x.dtype), self.epsilon)


def norms_in(model: nn.Module) -> Iterator[tuple[str, NormForm]]:
    """The modules of a model that compute a norm in single operations, by name; those of torch do so in one."""
    for name, module in model.named_modules():
        form = None if isinstance(module, nn.LayerNorm | nn.RMSNorm) else norm_form_of(module)
        if form is not None:
            yield name, form


@torch.no_grad()
def norm_form_of(module: nn.Module) -> NormForm | None:
    """The norm that a module computes of one argument, seen by what it makes of noise of several sizes; else None."""
    gains = _gains_of(module)
    if gains is None:
        return None
    width = getattr(module, gains).numel()
    for epsilon in _small_numbers(module):
        noise = _noise(width, epsilon).to(getattr(module, gains).device)
        try:
            output = module(noise)
        except Exception:  # whatever keeps it from taking one tensor says that it is no such norm
            return None
        for adds_one in (False, True):
            for centres in (False, True):
                form = NormForm(gains, adds_one, centres, epsilon)
                if _agree(output, form.of(module, noise)):
                    return form
    return None


def _gains_of(module: nn.Module) -> str | None:
    """The name of the parameter that holds γ, in a module that has such a one and perhaps a bias, and nothing else."""
    parameters = dict(module.named_parameters())
    others = [name for name in parameters if name != "bias"]
    is_plain = not (any(True for _ in module.children()) or any(True for _ in module.buffers()))
    if not is_plain or len(others) != 1 or watching.has_hooks(module) or watching.has_own_forward(module):
        return None
    fits = all(x.dim() == 1 and x.shape == parameters[others[0]].shape for x in parameters.values())
    return others[0] if fits and not parameters[others[0]].is_meta else None


def _small_numbers(module: nn.Module) -> list[float]:
    """What may be ε among the attributes of a module."""
    numbers = (value for value in vars(module).values() if type(value) is float and 0 < value < _LARGEST_EPSILON)
    return list(dict.fromkeys(numbers))


def _noise(width: int, epsilon: float) -> Tensor:
    """Rows [2, 3, C] of three sizes, one of them that of √ε, with means that are not 0."""
    noise = torch.randn(2, 3, width, generator=torch.Generator().manual_seed(0)) + 0.5
    return noise * torch.tensor([1.0, 30.0, epsilon**0.5]).view(3, 1)


def _agree(output: Any, expected: Tensor) -> bool:
    """Whether both are the same but for rounding, row by row."""
    if not isinstance(output, Tensor) or output.shape != expected.shape or not output.is_floating_point():
        return False
    difference, size = (single(output) - expected).norm(dim=-1), expected.norm(dim=-1)
    return bool((size > 0).all()) and bool((difference <= _TOLERANCE * size).all())


class KnownNorm(KnowsCalls):
    """Mixin of a norm: in a call of a model that is converted by operations it is one function of torch.

    Attributes:
        norm_form: what it computes.
    """

    norm_form: NormForm

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As of the module, which is given more than one argument where it computes something else."""
        given = [value for value in (*args, *kwargs.values()) if value is not None]
        if active() is None or len(given) != 1 or not isinstance(given[0], Tensor):
            return super().forward(*args, **kwargs)  # type: ignore[misc]
        return self.norm_form.of(self, given[0])
