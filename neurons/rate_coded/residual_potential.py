"""The neuron of SRP."""

from typing import Any

import torch
from torch import Tensor

from las_sj.neurons.rate_coded.integrate_and_fire import RateCodedNode, States


class ResidualPotentialIFNode(RateCodedNode):
    """Integrate-and-fire neuron that is silenced if it should not have fired (SRP, arXiv 2302.02091).

    In the first τ steps it is a `QCFSIFNode`. A neuron whose membrane potential is then at most ε·θ is silent from
    there on: if it has fired, it fired too much. In the T steps that follow all begin again at v(0), and only spikes
    of the others are passed on. The value is the mean over these T steps; τ = 0 silences nobody.

    Step mode "s": one step, [B, ..., C] to [B, ..., C]; "m": [τ + T, B, ..., C] to [τ + T, B, ..., C]. Spikes are 0
    or 1.

    Args:
        theta: threshold θ, a positive number or one per channel ([C]).
        tau: τ ≥ 0, steps of the first phase.
        epsilon: ε, in thresholds: 0 ≤ ε < 1.
        options: as of `RateCodedNode`.

    Attributes:
        step: steps since the last reset.
        mask: of the neurons that fire in the second phase, bool [B, ..., C]; None before.

    Raises:
        ValueError: tau is no integer ≥ 0, or epsilon outside of its range.
    """

    def __init__(self, theta: float | Tensor, tau: int, epsilon: float = 1e-3, **options: Any) -> None:
        super().__init__(theta, **options)
        if not isinstance(tau, int) or isinstance(tau, bool) or tau < 0:
            raise ValueError(f"tau must be an integer >= 0, got {tau!r}")
        if not 0 <= epsilon < 1:
            raise ValueError(f"epsilon must lie in [0, 1), got {epsilon!r}")
        self.tau = tau
        self.epsilon = epsilon
        self.register_memory("step", 0)
        self.register_memory("mask", None)

    @property
    def presimulation_steps(self) -> int:
        """τ."""
        return self.tau

    def single_step_functional_forward(
        self, inputs: tuple[Any, ...], states: States, **kwargs: object
    ) -> tuple[tuple[Tensor, ...], States]:
        """One step of either phase; the second begins where the first ends."""
        x, position = inputs
        v, step, mask = states
        if step == self.tau and self.tau:
            mask = v > self.epsilon * self.scale_at(x, position)
            v = self.initial(x, position)
        spikes, v = self.fire(x, v, position)
        if mask is not None:
            spikes = torch.where(mask, spikes, torch.zeros_like(spikes))
        return (spikes,), (v, step + 1, mask)
