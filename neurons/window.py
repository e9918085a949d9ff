"""The base of all neurons here: integrate one window of input, then fire for T steps."""

from collections.abc import Callable
from functools import partial
from types import ModuleType

import torch
from spikingjelly.activation_based import base
from torch import Tensor

from las_sj.neurons import traced, watching
from las_sj.neurons.buffers import BUFFERS
from las_sj.neurons.contract import NeuronContract
from las_sj.neurons.counts import NodeCounts
from las_sj.neurons.fan_out import FanOut
from las_sj.neurons.kernels.choose import BACKENDS
from las_sj.neurons.population import Population, integrated
from las_sj.neurons.precision import keeping_precision, single
from las_sj.neurons.record import Recorder


def uneven_shares(time_steps: int, v: Tensor) -> Tensor:
    """Weights with sum 1 for the steps of a bypassed window, [T, 1, ...]; large, negative and zero ones among them.

    Even shares would hide a non-linearity between neurons that commutes with positive factors.
    """
    shares = torch.zeros(time_steps, dtype=v.dtype, device=v.device)
    shares[0] = 1.0
    if time_steps > 1:
        shares[:2] = torch.tensor([1.5, -0.5])
    return shares.view(-1, *[1] * v.dim())


def _shared_out(value: Tensor, time_steps: int) -> Tensor:
    """A value [B, ...] in uneven shares, [T, B, ...]."""
    shares = uneven_shares(time_steps, value)
    if torch.is_grad_enabled() or not BUFFERS.serve((time_steps, *value.shape), value):
        return value * shares
    return torch.mul(value, shares, out=BUFFERS.empty((time_steps, *value.shape), value))


@torch.compiler.disable
def _uncompiled(run: Callable[[Tensor, FanOut | None], Tensor], x: Tensor, fan_out: FanOut | None) -> Tensor:
    """`run` where torch compiles what is around it: who observes a node must be told of each call.

    Raises:
        RuntimeError: the call is exported.
    """
    if torch.compiler.is_exporting():
        raise RuntimeError(
            "a converted model cannot be exported while its neurons are observed: "
            "detach monitors, hooks and counts of spikes first"
        )
    return run(x, fan_out)


class WindowNode(NeuronContract, base.MemoryModule):
    """A neuron that integrates its whole input window and then fires for `time_steps` steps.

    Step mode "m" takes the currents of a window, [T_in, B, ...] (any T_in), and returns the spike train,
    [T, B, ...]. Step mode "s" takes the accumulated input, [B, ...], and returns the accumulated output.
    Both depend on the summed input only, so they describe the same neuron. Every call is one window: the
    membrane starts from rest. What a neuron emits is defined by `NeuronContract`.

    Attributes:
        backend: "auto" (compiled kernels where there are any for the device), "torch", "host" or "cupy".
        v: membrane potential after the window, [B, ...]; kept only where `store_v_seq` is set or a forward
            hook (a SpikingJelly monitor) may read it, 0.0 otherwise.
        v_seq: membrane potential after each step, [T, B, ...], if `store_v_seq` is set (step mode "m").
        count_spikes: if set, `spike_count` holds the spikes of each neuron in the last window, int8 [B, ...].
        counts: what is kept of the windows.
        population: how the neurons fire, by kernels or by torch.
        bypass: pass values through uncoded, with the exact non-linearity, in as many steps as they came in; used to
            check the structure of a converted network and to calibrate it.
        observer: called with the membrane potential [B, ...] of each window, before firing; used to calibrate.
        recorder: called with the node and the `WindowRecord` of each window; used to monitor.
    """

    def __init__(self, time_steps: int, step_mode: str = "s", backend: str = "auto") -> None:
        super().__init__()
        if not isinstance(time_steps, int) or isinstance(time_steps, bool) or time_steps < 1:
            raise ValueError(f"time_steps must be an integer >= 1, got {time_steps!r}")
        self.time_steps = time_steps
        self.step_mode = step_mode
        self.backend = backend
        self.population = Population(self)
        self.register_memory("v", 0.0)
        self.store_v_seq = False
        self.v_seq: Tensor | None = None
        self.count_spikes = False
        self.counts = NodeCounts()
        self.bypass = False
        self.observer: Callable[[Tensor], None] | None = None
        self.recorder: Recorder | None = None

    @property
    def supported_backends(self) -> tuple[str, ...]:
        """The values that `backend` may have, besides "auto"."""
        return BACKENDS

    @property
    def backend(self) -> str:
        """What the neurons run on: "auto", "torch", "host" or "cupy"."""
        return self._backend

    @backend.setter
    def backend(self, value: str) -> None:
        if value not in self.supported_backends and value != "auto":
            raise ValueError(f"backend must be one of {', '.join(self.supported_backends)}, got {value!r}")
        self._backend = value

    @property
    def most_spikes(self) -> int:
        """The most spikes that a neuron can emit in a window."""
        return self.time_steps

    def reset_counts(self) -> None:
        """Forget what was counted."""
        self.counts.reset()

    @property
    def spike_count(self) -> Tensor | None:
        """Spikes of each neuron in the last window, int8 [B, ...], if they are counted."""
        return None if self.counts.last is None else self.counts.last.each

    @property
    def out_of_range(self) -> int:
        """How many inputs lay outside the neuron's range since the last `reset_counts`."""
        return int(self.counts.out_of_range)

    def single_step_forward(self, x: Tensor, fan_out: FanOut | None = None) -> Tensor:
        """Accumulated input [B, ...] to accumulated output [B, ...]; `fan_out` is for the recorder."""
        if self.is_observed:
            return _uncompiled(self._step, x, fan_out)
        y = self._fired_at_once(x, fan_out, as_train=False)
        return self._step(x, fan_out) if y is None else y

    def _step(self, x: Tensor, fan_out: FanOut | None) -> Tensor:
        """As `single_step_forward`, for everybody who observes."""
        kernels = self._kernels(x)
        if kernels is not None:
            y = self.population.fire_by_kernels(kernels, x.unsqueeze(0), fan_out, as_train=False)[1]
        else:
            y = self.accumulated(x, fan_out)
        self._keep_membrane(x, y)
        return y

    def multi_step_forward(self, x_seq: Tensor, fan_out: FanOut | None = None) -> Tensor:
        """Currents [T_in, B, ...] to the spike train [T, B, ...]; `fan_out` is for the recorder."""
        if x_seq.shape[0] == 0:
            raise ValueError("a window needs at least one time step of input, got a tensor with none")
        if self.is_observed:
            return _uncompiled(self._window, x_seq, fan_out)
        y = self._fired_at_once(x_seq, fan_out, as_train=True)
        return self._window(x_seq, fan_out) if y is None else y

    def _window(self, x_seq: Tensor, fan_out: FanOut | None) -> Tensor:
        """As `multi_step_forward`, for everybody who observes."""
        v, train = self.train_from(x_seq, fan_out=fan_out)
        if self.store_v_seq and v is not None:
            self.v_seq = v - train.cumsum(0)
        self._keep_membrane(v, train)
        return train

    def train_from(
        self, x_seq: Tensor, out: Tensor | None = None, fan_out: FanOut | None = None
    ) -> tuple[Tensor | None, Tensor]:
        """Integrate currents [T_in, B, ...] and fire.

        Args:
            x_seq: the currents.
            out: receives the train, [T, B, ...], contiguous and of the type of `x_seq`; a new tensor if None.
            fan_out: for the recorder.

        Returns:
            The membrane potential [B, ...], or None where nobody asks for it; the spike train [T, B, ...].

        Raises:
            ValueError: `out` does not fit.
        """
        if out is not None:
            self._check_output(x_seq, out)
        kernels = self._kernels(x_seq)
        if kernels is not None:
            return self.population.fire_by_kernels(kernels, x_seq, fan_out, as_train=True, out=out)
        v = integrated(x_seq)
        train = self.train_of(v, fan_out, len(x_seq)).to(x_seq.dtype)
        return v, train if out is None else out.copy_(train)

    def _fired_at_once(self, x: Tensor, fan_out: FanOut | None, *, as_train: bool) -> Tensor | None:
        """What is emitted where nothing else is wanted; None where more is, or where kernels do not know the node."""
        if torch.compiler.is_compiling():
            return traced.population(self, x, as_train=as_train)
        if isinstance(self._memories["v"], Tensor) or self._keeps_gradient(x):
            return None
        return self.population.fire_unobserved(x, fan_out, as_train=as_train)

    def _kernels(self, x: Tensor) -> ModuleType | None:
        """The kernels that run on `x` and nothing else, or None: where values pass, are observed, or have gradients."""
        if self.observer is not None or self.bypass or self._keeps_gradient(x):
            return None
        return self.population.kernels(x)

    def _check_output(self, x_seq: Tensor, out: Tensor) -> None:
        shape = (self.time_steps, *x_seq.shape[1:])
        if out.shape != shape or out.dtype != x_seq.dtype or out.device != x_seq.device or not out.is_contiguous():
            raise ValueError(f"out must be contiguous, {list(shape)}, {x_seq.dtype}, on {x_seq.device}")

    def accumulated(self, v: Tensor, fan_out: FanOut | None = None) -> Tensor:
        """The sum over the window of what a neuron with membrane potential `v` emits, [B, ...]."""
        if self.observer is not None:
            self.observer(v.detach())
        if self.bypass:
            return self.exact(v)
        return self._encoded(v, fan_out, as_train=False)

    def train_of(self, v: Tensor, fan_out: FanOut | None = None, steps: int | None = None) -> Tensor:
        """The spike train of a neuron with membrane potential `v`, [T, B, ...]; bypassed, of so many steps if given."""
        if self.observer is not None:
            self.observer(v.detach())
        if self.bypass:
            return _shared_out(self.exact(v), steps or self.time_steps)
        return self._encoded(v, fan_out, as_train=True)

    def expected_train(self, x_seq: Tensor) -> Tensor:
        """The train [T, B, ...] that the neurons are defined to emit for currents [T_in, B, ...]; nobody is told."""
        return self.population.train(x_seq)

    def _encoded(self, v: Tensor, fan_out: FanOut | None, *, as_train: bool) -> Tensor:
        encode = partial(self.population.fire, fan_out=fan_out, as_train=as_train)
        if self._keeps_gradient(v):
            return self.with_gradient(single(v), encode).to(v.dtype)  # slopes too are computed in single precision
        return encode(self.population.working(v)).to(v.dtype)

    def is_watched(self, x: Tensor) -> bool:
        """Whether anybody wants to see what this population does with `x`, or anything stands around it."""
        return self.is_observed or self._keeps_gradient(x)

    @property
    def is_observed(self) -> bool:
        """As `is_watched`, gradients aside."""
        return (
            self.bypass
            or self.count_spikes
            or self.store_v_seq
            or self.observer is not None
            or self.recorder is not None
            or watching.is_wrapped(self)
        )

    def _keeps_gradient(self, x: Tensor) -> bool:
        return torch.is_grad_enabled() and watching.keeps_gradient(x, list(self.parameters()))

    @property
    def is_read(self) -> bool:
        """Whether somebody may read the membrane potential after a call: `store_v_seq`, or a forward hook."""
        return self.store_v_seq or watching.has_output_hooks(self)

    def _keep_membrane(self, v: Tensor | None, emitted: Tensor) -> None:
        if v is not None and self.is_read:
            self.v = v - (emitted.sum(0) if self.step_mode == "m" else emitted)
        elif isinstance(self._memories["v"], Tensor):
            self.reset()

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> "WindowNode":
        """Move thresholds and tables, but keep them in their precision: `.half()` is for values."""
        return super()._apply(keeping_precision(fn))

    def extra_repr(self) -> str:
        """Time steps and step mode."""
        return f"T={self.time_steps}, step_mode={self.step_mode}"
