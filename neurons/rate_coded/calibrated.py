"""The neuron of FAS."""

from collections.abc import Callable

from torch import Tensor, nn

from las_sj.neurons.rate_coded.integrate_and_fire import RateCodedNode
from las_sj.neurons.rate_coded.threshold import as_working


class CalibratedIFNode(RateCodedNode):
    """Integrate-and-fire neuron whose threshold and first membrane potential are calibrated (FAS, arXiv 2502.04405).

        h(t) = v(t−1) + x(t);  s(t) = H(h(t) − Θ);  v(t) = h(t) − Θ·s(t);  v(0) = β·Θ

    Θ and β have gradients: through the amplitude of spikes, the reset, and v(0). With Θ = θ and β = ½ it is the
    `QCFSIFNode`. Step mode "s": [B, ..., C] to [B, ..., C]; "m": [T, B, ..., C] to [T, B, ..., C]. Spikes are 0 or 1.

    Args:
        theta: Θ: a positive number, one per channel ([C], for any number of tokens), or one per position and channel
            ([S, C], as released).
        beta: β: a number, or a tensor that fits Θ.
        surrogate_function, step_mode: as in `RateCodedNode`.

    Raises:
        ValueError: Θ is not finite and positive, or β not finite or of another shape.
    """

    def __init__(
        self,
        theta: float | Tensor,
        beta: float | Tensor = 0.5,
        surrogate_function: Callable[[Tensor], Tensor] | None = None,
        step_mode: str = "s",
    ) -> None:
        super().__init__(theta, surrogate_function=surrogate_function, step_mode=step_mode, is_trained=True)
        start = as_working(beta)
        if start.dim() and start.shape != self.theta.shape:
            raise ValueError(f"beta has the shape {list(start.shape)}, theta {list(self.theta.shape)}")
        if not start.is_meta and not bool(start.isfinite().all()):
            raise ValueError(f"beta must be finite, got {beta}")
        self.beta = nn.Parameter(start.expand(self.theta.shape).to(self.theta.dtype).clone())
