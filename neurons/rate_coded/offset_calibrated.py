"""The neuron of COS."""

from typing import Any

import torch
from torch import Tensor

from las_sj.neurons.rate_coded.integrate_and_fire import RateCodedNode, States


class OffsetCalibratedIFNode(RateCodedNode):
    """Integrate-and-fire neuron that shifts where it begins, by how many spikes it misses (COS, arXiv 2302.10685).

    The first ρ steps are simulated beforehand. A neuron that has then fired N > 0 times, and too often, begins lower by
    max(θ, min{h(t): s(t) = 1} − θ + ε·θ); one with N < ρ that has not fired enough begins higher by
    max(θ, θ − max{v(t): s(t) = 0} + ε·θ). Each shift changes N by exactly one; ρ of them make the value exact over
    ρ steps. Then all T steps run from there.

    Step mode "m" alone: [T, B, ..., C] to [T, B, ..., C], T ≥ ρ; each call begins at rest, since it looks ahead.
    Spikes are 0 or 1.

    Args:
        theta: threshold θ, a positive number or one per channel ([C]).
        rho: ρ ≥ 1, steps that are simulated beforehand.
        iterations: shifts; the release makes one.
        epsilon: ε, in thresholds: 0 < ε < 1.
        options: as of `RateCodedNode`, but for step_mode.

    Raises:
        ValueError: rho or iterations is no such integer, or epsilon outside of its range; of a call: T < ρ.
    """

    def __init__(
        self, theta: float | Tensor, rho: int, iterations: int = 1, epsilon: float = 1e-3, **options: Any
    ) -> None:
        super().__init__(theta, **{"step_mode": "m"} | options)
        for name, value, least in (("rho", rho, 1), ("iterations", iterations, 0)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
        if not 0 < epsilon < 1:
            raise ValueError(f"epsilon must lie in (0, 1), got {epsilon!r}")
        self.rho = rho
        self.iterations = iterations
        self.epsilon = epsilon

    @property
    def presimulation_steps(self) -> int:
        """ρ."""
        return self.rho

    def supported_step_mode(self) -> tuple[str, ...]:
        """Step mode "m" alone, since the first steps are looked at beforehand; "s" says that a model is accumulated."""
        return ("s", "m") if self.is_windowed else ("m",)

    def materialize_states(self, inputs: tuple[Any, ...], states: States, step_mode: str) -> States:
        """Membrane potentials at rest, whatever came before."""
        return super().materialize_states(inputs, (None, *states[1:]), step_mode)

    def multi_step_functional_forward(
        self, inputs: tuple[Any, ...], states: States, **kwargs: object
    ) -> tuple[tuple[Tensor, ...], States]:
        """Shift where neurons begin, then run all steps."""
        x_seq, position = inputs
        if len(x_seq) < self.rho:
            raise ValueError(f"the neurons look {self.rho} steps ahead, got {len(x_seq)}")
        rest, *others = states
        v = rest
        for _ in range(self.iterations):
            v = v + self._shift(x_seq[: self.rho], v, rest, position)
        return super().multi_step_functional_forward(inputs, (v, *others), **kwargs)

    @torch.no_grad()
    def _shift(self, x_seq: Tensor, start: Tensor, rest: Tensor, first_position: int) -> Tensor:
        """By how much each neuron should begin higher, [B, ..., C].

        Args:
            x_seq: the first ρ steps, [ρ, B, ..., C].
            start: where the neurons begin so far.
            rest: where they began first.
            first_position: of the tokens.
        """
        theta = self.scale_at(x_seq[0], first_position)
        v, count = start, torch.zeros_like(start)
        least_fired, most_silent = torch.full_like(start, torch.inf), torch.full_like(start, -torch.inf)
        for x in x_seq:
            h = v + x
            spikes, v = self.fire(x, v, first_position)
            fired = spikes > 0
            count += fired
            least_fired = torch.where(fired, torch.minimum(least_fired, h), least_fired)
            most_silent = torch.where(fired, most_silent, torch.maximum(most_silent, v))
        missing = ((v - (start - rest)) / theta).floor()
        step_down = torch.maximum(theta, least_fired - theta + self.epsilon * theta)
        step_up = torch.maximum(theta, theta - most_silent + self.epsilon * theta)
        down = (missing < 0) & (count > 0)
        up = (missing > 0) & (count < self.rho)
        return torch.where(up, step_up, torch.where(down, -step_down, torch.zeros_like(start)))
