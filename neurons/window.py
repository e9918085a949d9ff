"""The base of all neurons here: integrate one window of input, then fire for T steps."""

from collections.abc import Callable, Iterator
from ctypes import Structure
from types import ModuleType
from typing import Any

import torch
from spikingjelly.activation_based import base
from torch import Tensor

from las_sj.neurons.fetching import HOOK
from las_sj.neurons.kernels import cuda
from las_sj.neurons.kernels.choose import BACKENDS, kernels_for
from las_sj.neurons.tally import Tally, WindowCounts

_HALF = (torch.float16, torch.bfloat16)
_CHUNK = 1 << 18  # elements


def _chunks(rows: Tensor) -> Iterator[slice]:
    """Slices of `rows` that are small enough for all temporaries to stay in a processor's cache."""
    per_row = max(rows[:1].numel(), 1)
    size = max(_CHUNK // per_row, 1) if rows.device.type == "cpu" else max(len(rows), 1)
    return (slice(start, start + size) for start in range(0, len(rows), size))


def _uneven_shares(time_steps: int, v: Tensor) -> Tensor:
    """Weights with sum 1 for the steps of a bypassed window, [T, 1, ...]; large, negative and zero ones among them.

    Even shares would hide a non-linearity between neurons that commutes with positive factors.
    """
    shares = torch.zeros(time_steps, dtype=v.dtype, device=v.device)
    shares[0] = 1.0
    if time_steps > 1:
        shares[:2] = torch.tensor([1.5, -0.5])
    return shares.view(-1, *[1] * v.dim())


class WindowNode(base.MemoryModule):
    """A neuron that integrates its whole input window and then fires for `time_steps` steps.

    Step mode "m" takes the currents of a window, [T_in, B, ...] (any T_in), and returns the spike train,
    [T, B, ...]. Step mode "s" takes the accumulated input, [B, ...], and returns the accumulated output.
    Both depend on the summed input only, so they describe the same neuron. Every call is one window: the
    membrane starts from rest.

    Attributes:
        backend: "auto" (compiled kernels where there are any for the device), "torch", "host" or "cupy".
        v: membrane potential after the window, [B, ...]; kept only where `store_v_seq` is set or a forward
            hook (a SpikingJelly monitor) may read it, 0.0 otherwise.
        v_seq: membrane potential after each step, [T, B, ...], if `store_v_seq` is set (step mode "m").
        count_spikes: if set, `spike_count` holds the spikes of each neuron in the last window, int8 [B, ...].
        tally: counts, and what a recorder is told.
        bypass: pass values through uncoded, with the exact non-linearity; used to check the structure of a
            converted network and to calibrate it.
        observer: called with the membrane potential [B, ...] of each window, before firing; used to calibrate.
        recorder: called with the node, the membrane potential [B, ...] and what was emitted ([B, ...] or a train
            [T, B, ...]) after each window; used to monitor.
    """

    def __init__(self, time_steps: int, step_mode: str = "s", backend: str = "auto") -> None:
        super().__init__()
        if not isinstance(time_steps, int) or isinstance(time_steps, bool) or time_steps < 1:
            raise ValueError(f"time_steps must be an integer >= 1, got {time_steps!r}")
        self.time_steps = time_steps
        self.step_mode = step_mode
        self.backend = backend
        self._neurons: tuple[Any, Structure] | None = None
        self.register_memory("v", 0.0)
        self.store_v_seq = False
        self.v_seq: Tensor | None = None
        self.count_spikes = False
        self.tally = Tally()
        self.bypass = False
        self.observer: Callable[[Tensor], None] | None = None
        self.recorder: Callable[[WindowNode, Tensor, Tensor], None] | None = None

    @property
    def supported_backends(self) -> tuple[str, ...]:
        return BACKENDS

    @property
    def backend(self) -> str:
        return self._backend

    @backend.setter
    def backend(self, value: str) -> None:
        if value not in self.supported_backends and value != "auto":
            raise ValueError(f"backend must be one of {', '.join(self.supported_backends)}, got {value!r}")
        self._backend = value

    def reset_counts(self) -> None:
        """Forget the counters and what a recorder was told."""
        self.tally.reset()

    @property
    def spike_count(self) -> Tensor | None:
        """Spikes of each neuron in the last window, int8 [B, ...], if they are counted."""
        return self.tally.spikes

    @property
    def out_of_range(self) -> int:
        """How many inputs lay outside the neuron's range since the last `reset_counts`."""
        return int(self.tally.out_of_range)

    def single_step_forward(self, x: Tensor) -> Tensor:
        """Accumulated input [B, ...] to accumulated output [B, ...]."""
        y = self.accumulated(x)
        self._end_window(x, y)
        return y

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        """Currents [T_in, B, ...] to the spike train [T, B, ...]."""
        if x_seq.shape[0] == 0:
            raise ValueError("a window needs at least one time step of input, got a tensor with none")
        v, train = self.train_from(x_seq)
        if self.store_v_seq and v is not None:
            self.v_seq = v - train.cumsum(0)
        self._end_window(v, train)
        return train

    def train_from(self, x_seq: Tensor, out: Tensor | None = None) -> tuple[Tensor | None, Tensor]:
        """Integrate currents [T_in, B, ...] and fire.

        Args:
            x_seq: the currents.
            out: receives the train, [T, B, ...], contiguous and of the type of `x_seq`; a new tensor if None.

        Returns:
            The membrane potential [B, ...], or None where nobody asks for it; the spike train [T, B, ...].

        Raises:
            ValueError: `out` does not fit.
        """
        if out is not None:
            self._check_output(x_seq, out)
        kernels = None if self.observer is not None or self.bypass else self._kernels(x_seq)
        if kernels is not None and not self._keeps_gradient(x_seq):
            return self._emit(kernels, x_seq, True, out)
        v = x_seq.sum(0)
        train = self.train_of(v)
        return v, train if out is None else out.copy_(train)

    def _check_output(self, x_seq: Tensor, out: Tensor) -> None:
        shape = (self.time_steps, *x_seq.shape[1:])
        if out.shape != shape or out.dtype != x_seq.dtype or out.device != x_seq.device or not out.is_contiguous():
            raise ValueError(f"out must be contiguous, {list(shape)}, {x_seq.dtype}, on {x_seq.device}")

    def accumulated(self, v: Tensor) -> Tensor:
        """The sum over the window of what a neuron with membrane potential `v` emits, [B, ...]."""
        if self.observer is not None:
            self.observer(v.detach())
        if self.bypass:
            return self._exact(v)
        return self._with_gradient(self._working(v), self._code_sum).to(v.dtype)

    def train_of(self, v: Tensor) -> Tensor:
        """The spike train of a neuron with membrane potential `v`, [T, B, ...]."""
        if self.observer is not None:
            self.observer(v.detach())
        if self.bypass:
            return self._exact(v) * _uneven_shares(self.time_steps, v)
        return self._with_gradient(self._working(v), self._code_train).to(v.dtype)

    def _working(self, v: Tensor) -> Tensor:
        """Half precision holds values, not membrane dynamics; kernels that take it compute in single precision."""
        return v.float() if v.dtype in _HALF and self._kernels(v) is None else v

    def count_out_of_range(self, v: Tensor) -> int:
        """How many of the membrane potentials `v` ([B, ...]) lie beyond the neuron's range."""
        return 0

    def spikes_of(self, v: Tensor) -> Tensor:
        """The spikes of neurons with membrane potential `v` ([B, ...]), as signed amplitudes: int16 [T, B, ...].

        0 is no spike. Binary spikes are 1; a spike of level j of a code with n levels, amplitude θ(t)(1 + j/n), is
        ±(n + j).
        """
        raise NotImplementedError

    def _spikes_by_kernel(self, v: Tensor) -> Tensor | None:
        """`spikes_of` where there is a kernel for it and levels fit its int8."""
        kernels = self._kernels(v)
        if kernels is not cuda or self.largest_level > cuda.LARGEST_LEVEL:
            return None
        return cuda.spikes(self.kernel_neurons(v), v.detach(), self.time_steps).to(torch.int16)

    @property
    def largest_level(self) -> int:
        """The largest magnitude that `spikes_of` returns."""
        return 1

    def spike_scale(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """α and a bias for each membrane potential `v` ([B, ...]): a spike at step t carries α·2^-t, or its multiple by
        the spike's level; the bias comes with step 1."""
        raise NotImplementedError

    @property
    def most_spikes(self) -> int:
        """The most spikes that a neuron can emit in a window."""
        return self.time_steps

    def _kernels(self, x: Tensor) -> ModuleType | None:
        """The compiled kernels for a tensor, or None."""
        kernels = kernels_for(self._backend, x)
        if kernels is None or any(table.device != x.device for table in self._kernel_tables()):
            return None
        return kernels

    def kernel_neurons(self, x: Tensor) -> Structure:
        """This population as kernels know it, for inputs like `x` ([..., C]); made anew when a table has moved.

        The structure owns the tables that it points to, so that threads may share a node.
        """
        tables = self._kernel_tables()
        dtype = torch.promote_types(x.dtype, torch.float32)
        key = (dtype, *(table.data_ptr() for table in tables), *self._kernel_settings(x))
        known = self._neurons
        if known is not None and known[0] == key:
            return known[1]
        copies = {table: table.to(dtype) for table in tables if table.is_floating_point() and table.dtype != dtype}
        tables = [copies.get(table, table) for table in tables]
        neurons = self._describe(tables, x.shape[-1])
        neurons.tables = tables
        if not copies:  # copies do not follow what happens to the tables, so that they serve only once
            self._neurons = (key, neurons)
        return neurons

    def _kernel_tables(self) -> list[Tensor]:
        """The tensors that the kernels read."""
        raise NotImplementedError

    def _kernel_settings(self, x: Tensor) -> tuple[float, ...]:
        """What else the structure depends on that may change."""
        return ()

    def _describe(self, tables: list[Tensor], channels: int) -> Structure:
        """The structure for the kernels, with these tables."""
        raise NotImplementedError

    def is_watched(self, x: Tensor) -> bool:
        """Whether anybody wants to see what this population does with `x`, or anything stands around it."""
        return (
            self.bypass
            or self.count_spikes
            or self.store_v_seq
            or self.observer is not None
            or self.recorder is not None
            or bool(self._forward_hooks)
            or bool(self._forward_pre_hooks)
            or ("forward" in self.__dict__ and HOOK not in self.__dict__)
            or self._keeps_gradient(x)
        )

    def _keeps_gradient(self, x: Tensor) -> bool:
        return torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in self.parameters()))

    def _emit(
        self, kernels: ModuleType, currents: Tensor, as_train: bool, out: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor]:
        """What the kernels make of currents [S, B, ...]: the membrane potential, if it is asked for, and a train
        [T, B, ...] or its sum [B, ...]."""
        counts = self.tally.start(currents[0]) if self.count_spikes else None
        y, v, found = kernels.emit(
            self.kernel_neurons(currents),
            currents,
            self.time_steps if as_train else None,
            counts is not None,
            None if counts is None else counts.kept,
            self.recorder is not None or self.store_v_seq or bool(self._forward_hooks),
            out,
        )
        self.tally.out_of_range += found.beyond
        if counts is None:
            self.tally.raw = None
        else:
            counts.spikes, counts.outliers = found.spikes, found.outliers
            counts.finish(self.tally, y.shape[1:] if as_train else y.shape)
        if self.recorder is not None:
            self.recorder(self, v, y)
        return v, y

    def _code_sum(self, v: Tensor) -> Tensor:
        kernels = self._kernels(v)
        if kernels is not None:
            return self._emit(kernels, v.unsqueeze(0), as_train=False)[1]
        rows = self._rows(v)
        total, counts = torch.empty_like(rows), self._new_counts(rows)
        for part in _chunks(rows):
            part_counts = None if counts is None else counts.part(part)
            self._accumulate(rows[part], total[part], part_counts)
            if counts is not None and part_counts is not None:
                counts.add(part_counts)
        return self._record(v, counts, total.view(v.shape))

    def _code_train(self, v: Tensor) -> Tensor:
        kernels = self._kernels(v)
        if kernels is not None:
            return self._emit(kernels, v.unsqueeze(0), as_train=True)[1]
        rows = self._rows(v)
        train, counts = rows.new_empty((self.time_steps, *rows.shape)), self._new_counts(rows)
        for part in _chunks(rows):
            part_counts = None if counts is None else counts.part(part)
            self._fire(rows[part], train[:, part], part_counts)
            if counts is not None and part_counts is not None:
                counts.add(part_counts)
        return self._record(v, counts, train.view(self.time_steps, *v.shape))

    def _rows(self, v: Tensor) -> Tensor:
        """`v` as one row of elements, or as rows of channels where parameters are per channel."""
        return v.reshape(-1)

    def _new_counts(self, rows: Tensor) -> WindowCounts | None:
        return self.tally.start(rows) if self.count_spikes else None

    def _record(self, v: Tensor, counts: WindowCounts | None, y: Tensor) -> Tensor:
        if counts is None:
            self.tally.raw = None
        else:
            counts.finish(self.tally, v.shape)
        if self.recorder is not None:
            self.recorder(self, v, y)
        return y

    def _end_window(self, v: Tensor | None, emitted: Tensor) -> None:
        if v is not None and (self.store_v_seq or self._forward_hooks):
            self.v = v - (emitted.sum(0) if self.step_mode == "m" else emitted)
        elif isinstance(self.v, Tensor):
            self.reset()

    def _exact(self, v: Tensor) -> Tensor:
        raise NotImplementedError

    def _with_gradient(self, v: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """encode(v), with the neuron's surrogate gradient."""
        raise NotImplementedError

    def _accumulate(self, v: Tensor, total: Tensor, counts: WindowCounts | None) -> None:
        """Write the sum of the train for membrane potential `v` to `total`, of its shape, and count its spikes."""
        raise NotImplementedError

    def _fire(self, v: Tensor, train: Tensor, counts: WindowCounts | None) -> None:
        """Write the train [T, ...] for membrane potential `v` ([...]), and count its spikes."""
        raise NotImplementedError

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> "WindowNode":
        """Move thresholds and tables, but keep them in their precision: `.half()` is for values."""

        def keep_precision(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return tensor.to(moved.device) if moved.dtype in _HALF else moved

        return super()._apply(keep_precision)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_neurons": None}  # addresses mean nothing to a copy

    def extra_repr(self) -> str:
        return f"T={self.time_steps}, step_mode={self.step_mode}"
