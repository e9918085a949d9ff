"""What a network is trained with before its neurons spike: activations of L levels up to a threshold."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from spikingjelly.activation_based import quantize
from torch import Tensor, nn

from las_sj.neurons.precision import keeping_precision
from las_sj.neurons.rate_coded.threshold import as_positive, least_threshold

_CONTINUOUS: ContextVar[bool] = ContextVar("continuous", default=False)


@contextmanager
def continuous_quantisers() -> Iterator[None]:
    """Within this context quantised activations only clip: to compare networks by their structure.

    A level is decided by less than rounding errors, so that two forms of the same network would differ by chance.
    """
    before = _CONTINUOUS.set(True)
    try:
        yield
    finally:
        _CONTINUOUS.reset(before)


def level_of(x: Tensor, theta: Tensor, levels: int, clip_first: bool = True) -> Tensor:
    """clip(⌊x·L/θ + ½⌋, 0, L), [..., C] in fp32 or better; NaN of NaN. Arguments are those of `quantised`."""
    working = torch.promote_types(x.dtype, torch.float32)
    u = x.to(working) * levels / least_threshold(theta).to(working)
    if _CONTINUOUS.get():
        return u.clamp(0, levels)
    if clip_first:
        return quantize.floor(u.clamp(0, levels) + 0.5)
    return quantize.floor(u + 0.5).clamp(0, levels)


def quantised(x: Tensor, theta: Tensor, levels: int, clip_first: bool = True) -> Tensor:
    """What a `QCFSQuantizer` makes of values [..., C]; arguments are its own, θ a tensor that broadcasts with `x`."""
    level = level_of(x, theta, levels, clip_first)
    return (least_threshold(theta).to(level.dtype) * (level / levels)).to(x.dtype)


class QCFSQuantizer(nn.Module):
    """Quantised activation (QCFS, arXiv 2303.04347; step 1 of FAS, arXiv 2502.04405): [..., C] to [..., C].

        Q(x) = θ · clip(⌊x·L/θ + ½⌋ / L, 0, 1)

    Halves round up, negative inputs give 0. The floor has the gradient of the identity. dQ/dθ is the rounding residual
    (Q − x)/θ where dQ/dx is 1, and 1 above.

    Args:
        theta: initial threshold θ, a positive number or one per channel ([C]); a parameter that is trained.
        levels: L ≥ 1.
        clip_first: whether inputs are clipped before they are rounded, so that dQ/dx is 1 on [0, θ] (FAS); else on
            [−θ/2L, θ + θ/2L), as in the first release of QCFS, and in SRP and COS.

    Raises:
        ValueError: a threshold is not finite and positive, or levels is no integer ≥ 1.
    """

    def __init__(self, theta: float | Tensor, levels: int, clip_first: bool = True) -> None:
        super().__init__()
        if not isinstance(levels, int) or isinstance(levels, bool) or levels < 1:
            raise ValueError(f"levels must be an integer >= 1, got {levels!r}")
        self.levels = levels
        self.clip_first = clip_first
        self.theta = as_positive("theta", theta, is_trained=True)

    def forward(self, x: Tensor) -> Tensor:
        """Quantise values [..., C]."""
        return quantised(x, self.theta, self.levels, self.clip_first)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "QCFSQuantizer":
        """Move thresholds, but keep them in their precision: `.half()` is for values."""
        super()._apply(keeping_precision(fn), recurse)
        return self

    def extra_repr(self) -> str:
        """Levels, and what comes first."""
        return f"levels={self.levels}, clip_first={self.clip_first}"
