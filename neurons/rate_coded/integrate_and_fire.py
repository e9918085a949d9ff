"""The integrate-and-fire neuron of rate codes: reset by subtraction, binary spikes."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from spikingjelly.activation_based import base, functional, surrogate
from torch import Tensor, nn

from las_sj.neurons import watching
from las_sj.neurons.precision import keeping_precision
from las_sj.neurons.rate_coded.threshold import as_positive, least_threshold
from las_sj.neurons.record import Recorder

States = tuple[Any, ...]


class RateCodedNode(base.MemoryModule):
    """Integrate-and-fire neuron whose spikes carry θ each, and whose value is their mean over T steps.

        h(t) = v(t−1) + x(t);  s(t) = H(h(t) − θ), 1 on equality;  v(t) = h(t) − θ·s(t);  v(0) = β·θ

    Spikes are 0 or 1: multiply them by `scale`, or fold it into the next weights. The state is kept between calls, as
    in SpikingJelly: `reset` brings it back to v(0). Step mode "s": one step, [B, ..., C] to [B, ..., C]; "m": all
    steps, [T, B, ..., C] to [T, B, ..., C]. A membrane potential that is NaN never fires, and stays NaN.

    Args:
        theta: threshold θ: a positive number, one per channel ([C]), or one per position and channel ([S, C]).
        beta: membrane potential at the beginning, in thresholds.
        surrogate_function: of the step function, for its gradient; the triangle of FAS if None.
        step_mode: "s" or "m".
        is_trained: whether thresholds have a gradient.

    Attributes:
        v: membrane potential, [B, ..., C], in fp32 or better; None at the beginning.
        store_v_seq: whether step mode "m" keeps all of them.
        v_seq: they, [T, B, ..., C].
        is_windowed: whether each call of step mode "m" is a window of its own, as in a converted model: it begins at
            rest, and leaves a potential only where `store_v_seq` is set or a forward hook may read it.
        time_steps: steps of such a window; of a converted model.
        count_spikes, recorder: set by a monitor of a converted model, which is told of each window.

    Raises:
        ValueError: a threshold is not finite and positive, or beta not finite; of a call: the batch has another shape
            than before.
    """

    def __init__(
        self,
        theta: float | Tensor,
        beta: float = 0.5,
        surrogate_function: Callable[[Tensor], Tensor] | None = None,
        step_mode: str = "s",
        is_trained: bool = False,
    ) -> None:
        super().__init__()
        self.theta = as_positive("theta", theta, is_trained=is_trained)
        if not math.isfinite(beta):
            raise ValueError(f"beta must be finite, got {beta}")
        self.beta: float | nn.Parameter = beta
        self.is_windowed = False
        self.surrogate_function = surrogate_function or surrogate.PiecewiseQuadratic(alpha=1.0)
        self.step_mode = step_mode
        self.store_v_seq = False
        self.v_seq: Tensor | None = None
        self.time_steps = 1
        self.count_spikes = False
        self.recorder: Recorder | None = None
        self.register_memory("v", None)

    @property
    def presimulation_steps(self) -> int:
        """How many steps the neuron needs beside those that its value is the mean of."""
        return 0

    @property
    def scale(self) -> Tensor:
        """What a spike carries: θ."""
        return least_threshold(self.theta)

    def scale_at(self, x: Tensor, first_position: int = 0) -> Tensor:
        """What a spike of each neuron carries, broadcastable to [B, ..., C].

        Args:
            x: in the shape of one step.
            first_position: of its tokens, where θ depends on positions.
        """
        return least_threshold(self._at(self.theta, x, first_position)).to(_working(x))

    def _at(self, parameter: Tensor, x: Tensor, first_position: int) -> Tensor:
        """A parameter for the positions of a batch."""
        if parameter.dim() < 2:
            return parameter
        if x.dim() < 2 or first_position + x.shape[-2] > len(parameter):
            raise ValueError(
                f"the neurons have thresholds for {len(parameter)} positions, got {list(x.shape)} from position "
                f"{first_position} on"
            )
        return parameter[first_position : first_position + x.shape[-2]]

    def initial(self, x: Tensor, first_position: int = 0) -> Tensor:
        """The membrane potential v(0) = β·θ of each neuron, in the shape of `x`."""
        beta: float | Tensor = self.beta
        if isinstance(beta, Tensor):
            beta = self._at(beta, x, first_position).to(_working(x))
        return (self.scale_at(x, first_position) * beta).expand(x.shape)

    def materialize_states(self, inputs: tuple[Any, ...], states: States, step_mode: str) -> States:
        """Membrane potentials for the first call."""
        first = inputs[0] if step_mode == "s" else inputs[0][0]
        position = inputs[1]
        v, *others = states
        if v is None:
            v = self.initial(first, position)
        elif v.shape != first.shape:
            raise ValueError(
                f"the neurons hold the state of {list(v.shape)}, got {list(first.shape)}: reset them first"
            )
        return (v, *others)

    def fire(self, x: Tensor, v: Tensor, first_position: int = 0) -> tuple[Tensor, Tensor]:
        """One step: spikes in the type of `x`, and the membrane potential after them; both [B, ..., C]."""
        theta = self.scale_at(x, first_position)
        no_offset = theta.new_zeros(())
        spikes, v = functional.activation_aware_if_step(
            x.to(v.dtype), v, theta, no_offset, None, self.surrogate_function
        )
        return spikes.to(x.dtype), v

    def single_step_functional_forward(
        self, inputs: tuple[Any, ...], states: States, **kwargs: object
    ) -> tuple[tuple[Tensor, ...], States]:
        """One step of all neurons."""
        x, position = inputs
        spikes, v = self.fire(x, states[0], position)
        return (spikes,), (v, *states[1:])

    def multi_step_functional_forward(
        self, inputs: tuple[Any, ...], states: States, **kwargs: object
    ) -> tuple[tuple[Tensor, ...], States]:
        """All steps of a window."""
        x_seq, position = inputs
        spikes, potentials = [], []
        for x in x_seq:
            (step,), states = self.single_step_functional_forward((x, position), states)
            spikes.append(step)
            potentials.append(states[0])
        self.v_seq = torch.stack(potentials) if self.store_v_seq else None
        return (torch.stack(spikes),), states

    def single_step_forward(self, x: Tensor, first_position: int = 0) -> Tensor:
        """Currents [B, ..., C] of one step to spikes [B, ..., C].

        Args:
            x: the currents.
            first_position: of the tokens, where θ depends on positions.
        """
        spikes: Tensor = super().single_step_forward(x, first_position)
        return spikes

    def multi_step_forward(self, x_seq: Tensor, first_position: int = 0) -> Tensor:
        """Currents [T, B, ..., C] to spikes [T, B, ..., C].

        Args:
            x_seq: the currents.
            first_position: of the tokens, where θ depends on positions.

        Raises:
            ValueError: there is no time step.
        """
        if x_seq.dim() < 2 or not len(x_seq):
            raise ValueError(f"step mode 'm' takes currents [T, B, ...] with T >= 1, got {list(x_seq.shape)}")
        if self.is_windowed:
            return self._window(x_seq, first_position)
        spikes: Tensor = super().multi_step_forward(x_seq, first_position)
        return spikes

    def window_of(self, x_seq: Tensor, first_position: int = 0) -> Tensor:
        """The train [T, B, ..., C] that currents [T, B, ..., C] cause from rest on; nobody is told, nothing is kept."""
        (spikes,), _ = self._from_rest(x_seq, first_position)
        return spikes

    def _from_rest(self, x_seq: Tensor, first_position: int) -> tuple[tuple[Tensor, ...], States]:
        inputs = (x_seq, first_position)
        at_rest = tuple(self._memories_rv.values())
        return self.multi_step_functional_forward(inputs, self.materialize_states(inputs, at_rest, "m"))

    def _window(self, x_seq: Tensor, first_position: int) -> Tensor:
        """As `window_of`, for everybody who looks at the membrane potential afterwards."""
        (spikes,), (v, *_) = self._from_rest(x_seq, first_position)
        if self.store_v_seq or watching.has_output_hooks(self):
            self.v = v
        elif self.v is not None:
            self.v = None
        return spikes

    @property
    def most_spikes(self) -> int:
        """The most spikes that a neuron can emit in a window."""
        return self.time_steps

    @property
    def amplitudes_halve(self) -> bool:
        """False: each spike carries the same."""
        return False

    def faults(self, *, of_layout: bool = False) -> Iterator[tuple[str, str]]:
        """As of `NeuronContract`: thresholds, and first potentials, that cannot be the neurons'."""
        for name, tensor in self.named_parameters(recurse=False):
            if not bool(tensor.isfinite().all()):
                yield name, "has infinite or NaN values"
        if not of_layout and not bool((self.theta > 0).any()):
            yield "theta", "has no positive value"

    def reset_counts(self) -> None:
        """Forget what was counted: nothing, since windows are told to the recorder alone."""

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> "RateCodedNode":
        """Move thresholds and states, but keep them in their precision: `.half()` is for values."""
        result: RateCodedNode = super()._apply(keeping_precision(fn))
        return result

    def extra_repr(self) -> str:
        """Step mode, and the shape of θ."""
        return f"theta={list(self.theta.shape) or float(self.theta.detach())}, step_mode={self.step_mode}"


def _working(x: Tensor) -> torch.dtype:
    """The precision of membrane potentials: fp32 or better."""
    return torch.promote_types(x.dtype, torch.float32)
