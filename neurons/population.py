"""A population of neurons as it fires: by compiled kernels where there are any, else by torch, part by part."""

import itertools
import uuid
from collections.abc import Iterator, Sequence
from ctypes import Structure, pointer
from threading import Lock
from types import ModuleType
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from las_sj.neurons.contract import NeuronContract
from las_sj.neurons.counts import WindowCounts
from las_sj.neurons.fan_out import FanOut
from las_sj.neurons.kernels import cuda, host
from las_sj.neurons.kernels.choose import kernels_for
from las_sj.neurons.precision import HALF, at_least_single, single
from las_sj.neurons.record import WindowRecord

CHUNK = 1 << 18  # elements


def chunks(rows: Tensor) -> Iterator[slice]:
    """Slices of `rows` that are small enough for all temporaries to stay in a processor's cache."""
    per_row = max(rows[:1].numel(), 1)
    size = max(CHUNK // per_row, 1) if rows.device.type == "cpu" else max(len(rows), 1)
    return (slice(start, start + size) for start in range(0, len(rows), size))


def integrated(x_seq: Tensor) -> Tensor:
    """Membrane potentials [B, ...] of currents [T_in, B, ...]; of half precision in fp32, as in kernels."""
    return single(x_seq).sum(0)


def _lie_with(x: Tensor, tables: list[Tensor]) -> bool:
    """Whether all tables are on the device of `x`."""
    return all(table.device == x.device for table in tables)


_PROCESS = uuid.uuid4().hex  # tags must not be those of another process, whose programs may run here
_NUMBERS = itertools.count()
_MAKING = Lock()  # of counters: one for all, since modules with locks cannot be copied
_TAGGED: "WeakValueDictionary[str, Population]" = WeakValueDictionary()


def tagged(tag: str) -> "Population | None":
    """The population with a tag, if it is one of this process and still there."""
    return _TAGGED.get(tag)


class Population:
    """The neurons of one node: their tables as kernels know them, and how they emit.

    Args:
        node: whose tables and settings they have.

    Attributes:
        tag: a name that no other population has, in any process.
    """

    def __init__(self, node: NeuronContract) -> None:
        self.node = node
        self.tag = f"{_PROCESS}.{next(_NUMBERS)}"
        _TAGGED[self.tag] = self
        self._known: tuple[Any, Structure] | None = None
        self._layer: tuple[Any, Structure] | None = None
        self._counters: dict[tuple[torch.device, int], Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"node": self.node}  # addresses mean nothing to a copy, and it has a tag of its own

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["node"])  # type: ignore[misc]

    def kernels(self, x: Tensor) -> ModuleType | None:
        """The compiled kernels for a tensor, or None for torch."""
        kernels = kernels_for(self.node.backend, x)
        if kernels is None:
            return None
        tables = self.node.kernel_tables(x)
        return kernels if tables is not None and _lie_with(x, tables) else None

    def structure(self, x: Tensor) -> Structure:
        """The population as kernels know it, for inputs like `x` ([..., C]); made anew when a table has moved.

        The structure owns the tables that it points to, so that threads may share a node.

        Raises:
            ValueError: a table was replaced by one that is not like it.
        """
        tables = self.node.kernel_tables(x) or []
        key = self._key(x, tables)
        known = self._known
        if known is not None and known[0] == key:
            return known[1]
        dtype = at_least_single(x.dtype)
        for name, fault in self.node.faults(of_layout=True):
            raise ValueError(f"{name} {fault}")
        copies = {table: table.to(dtype) for table in tables if table.is_floating_point() and table.dtype != dtype}
        tables = [copies.get(table, table) for table in tables]
        neurons = self.node.describe(tables, x.shape[-1])
        neurons.tables = tables
        if not copies:  # copies do not follow what happens to the tables, so that they serve only once
            self._known = (key, neurons)
            neurons.is_kept = True
        return neurons

    def layer_of(self, kind: type[Structure], populations: tuple[Structure, ...], *others: Any) -> Structure:
        """The structure of a layer whose last population this is; made anew when one of its fields has changed.

        Args:
            kind: `Norm` or `Softmax`.
            populations: their structures, in the order of its fields.
            others: its other fields.
        """
        key, known = (kind, *map(id, populations), *others), self._layer
        if known is not None and known[0] == key:
            return known[1]
        layer = kind(*map(pointer, populations), *others)
        layer.populations = populations  # type: ignore[attr-defined]  # they live as long
        self._layer = (key, layer)
        return layer

    def counter(self, x: Tensor, nodes: Sequence[NeuronContract] | None = None) -> Tensor:
        """What kernels on the device of `x` add their counts to, int64 [populations, 3], made at its first use.

        Args:
            x: an input.
            nodes: of a layer whose last population this is; None: of this population alone.
        """
        nodes = nodes or (self.node,)
        key = (x.device, len(nodes))
        with _MAKING:
            if key not in self._counters:
                self._counters[key] = torch.zeros((len(nodes), 3), dtype=torch.int64, device=x.device)
                for node, counts in zip(nodes, self._counters[key], strict=True):
                    node.counts.counters.append(counts[2])
            return self._counters[key]

    def working(self, v: Tensor) -> Tensor:
        """Half precision holds values, not membrane dynamics; kernels that take it compute in single precision."""
        return v.float() if v.dtype in HALF and self.kernels(v) is None else v

    def fire(self, v: Tensor, *, fan_out: FanOut | None, as_train: bool) -> Tensor:
        """What membrane potentials `v` ([B, ...]) make the neurons emit; the recorder is told.

        Args:
            v: membrane potentials.
            fan_out: for the recorder.
            as_train: whether the train [T, B, ...] is wanted, or its sum [B, ...].
        """
        kernels = self.kernels(v)
        if kernels is not None:
            return self.fire_by_kernels(kernels, v.unsqueeze(0), fan_out, as_train=as_train)[1]
        counts = self._new_counts(v, fan_out)
        y = self._emit_by_torch(v, counts, as_train=as_train)
        self._take(counts, v.unsqueeze(0), fan_out)
        self._tell(v, y, counts, fan_out)
        return y

    def fire_by_kernels(
        self,
        kernels: ModuleType,
        currents: Tensor,
        fan_out: FanOut | None,
        *,
        as_train: bool,
        out: Tensor | None = None,
    ) -> tuple[Tensor | None, Tensor]:
        """What the currents of a window, [S, B, ...], make the neurons emit; the recorder is told.

        Args:
            kernels: `host` or `cuda`.
            currents: of the window.
            fan_out: for the recorder.
            as_train: whether the train [T, B, ...] is wanted, or its sum [B, ...].
            out: receives the train, or None.

        Returns:
            The membrane potential [B, ...], or None where nobody asks for it; and what was emitted.
        """
        node = self.node
        counts = self._new_counts(currents[0], fan_out) if node.count_spikes else WindowCounts()
        membrane = node.recorder is not None or node.is_read
        v, y = self._emit_by_kernels(kernels, currents, counts, as_train=as_train, membrane=membrane, out=out)
        self._take(counts, currents, fan_out)
        self._tell(v, y, counts, fan_out)
        return v, y

    def fire_unobserved(self, x: Tensor, fan_out: FanOut | None, *, as_train: bool) -> Tensor | None:
        """As `fire_by_kernels` where nobody observes the node, by the shortest way: most calls are so.

        On a GPU inputs of padding are counted like others: nobody waits to know which they are.

        Args:
            x: currents [S, B, ...] for a train, or their sum [B, ...].
            fan_out: which neurons take part.
            as_train: whether the train [T, B, ...] is wanted, or its sum [B, ...].

        Returns:
            What was emitted, or None where `fire_by_kernels` must be asked.
        """
        node = self.node
        kernels = kernels_for(node.backend, x)
        if kernels is None or (kernels is host and not x.is_contiguous()):
            return None
        tables = node.kernel_tables(x)
        known = self._known
        if tables is None or known is None or known[0] != self._key(x, tables):
            return None
        beyond, time_steps = 0, node.time_steps if as_train else None
        if kernels is host:
            y, beyond = host.emit_unobserved(known[1], x, time_steps)
        else:
            y = cuda.emit_unobserved(known[1], x, time_steps, self.counter(x))
        if fan_out is None or kernels is cuda:
            node.counts.add(x.numel() // x.shape[0] if as_train else x.numel(), beyond)
        else:
            self._take(WindowCounts(out_of_range=beyond), x if as_train else x.unsqueeze(0), fan_out)
        return y

    def _key(self, x: Tensor, tables: list[Tensor]) -> tuple[Any, ...]:
        """What a structure depends on; tables that have moved lie elsewhere."""
        return (x.dtype, x.device, self.node.kernel_settings(x), *map(Tensor.data_ptr, tables))

    def train(self, x_seq: Tensor) -> Tensor:
        """The train [T, B, ...] for currents [T_in, B, ...]; nobody is told, and nothing kept."""
        kernels, counts = self.kernels(x_seq), WindowCounts()
        if kernels is not None:
            return self._emit_by_kernels(kernels, x_seq, counts, as_train=True, membrane=False)[1]
        return self._emit_by_torch(integrated(x_seq), counts, as_train=True).to(x_seq.dtype)

    def _new_counts(self, v: Tensor, fan_out: FanOut | None) -> WindowCounts:
        if not self.node.count_spikes:
            return WindowCounts()
        return WindowCounts.of_each(v) if fan_out is None or fan_out.asks_for_each else WindowCounts(True)

    def _take(self, counts: WindowCounts, currents: Tensor, fan_out: FanOut | None) -> None:
        """Keep the counts of a window of currents [S, B, ...], padding aside where the fan-out tells."""
        size = currents.numel() // currents.shape[0]
        inputs = size if fan_out is None else fan_out.inputs(size)
        found = counts.out_of_range
        if fan_out is not None and inputs < size and (isinstance(found, Tensor) or found):
            if isinstance(found, Tensor) and self.node.recorder is None:
                counts.out_of_range = (found - (size - inputs)).clamp(min=0)  # at least; nobody waits for the device
            elif fan_out.live is not None:
                v = currents.sum(0).masked_fill(~fan_out.live, self.node.inside)
                counts.out_of_range = self.node.count_out_of_range(v)
        self.node.counts.take(counts, inputs)

    def _tell(self, v: Tensor | None, y: Tensor, counts: WindowCounts, fan_out: FanOut | None) -> None:
        if self.node.recorder is not None and v is not None:
            self.node.recorder(self.node, WindowRecord(v, y, counts, fan_out))

    def _emit_by_kernels(
        self,
        kernels: ModuleType,
        currents: Tensor,
        counts: WindowCounts,
        *,
        as_train: bool,
        membrane: bool,
        out: Tensor | None = None,
    ) -> tuple[Tensor | None, Tensor]:
        """Membrane potential, if wanted, and what was emitted; `counts` takes what is found."""
        y, v, found = kernels.emit(
            self.structure(currents),
            currents,
            self.node.time_steps if as_train else None,
            counts.counts_spikes,
            counts.kept,
            membrane,
            out,
        )
        counts.out_of_range = found.beyond
        if counts.counts_spikes:
            counts.spikes, counts.outliers = found.spikes, found.outliers
        return v, y

    def _emit_by_torch(self, v: Tensor, counts: WindowCounts, *, as_train: bool) -> Tensor:
        """The train [T, B, ...] of membrane potentials `v`, or its sum [B, ...]; `counts` takes spikes."""
        rows = self.node.rows(v)
        shape = (self.node.time_steps, *rows.shape) if as_train else rows.shape
        emitted = rows.new_empty(shape)
        if counts.kept is not None:
            counts.kept = counts.kept.view(rows.shape)
        for place in chunks(rows):
            part = counts.part(place)
            if as_train:
                self.node.write_train(rows[place], emitted[:, place], part)
            else:
                self.node.write_sum(rows[place], emitted[place], part)
            counts.add(part)
        if counts.kept is not None:
            counts.kept = counts.kept.view(v.shape)
        return emitted.view(self.node.time_steps, *v.shape) if as_train else emitted.view(v.shape)

    def spikes_by_kernel(self, v: Tensor) -> Tensor | None:
        """`spikes_of` where there is a kernel for it and levels fit its int8; else None."""
        if self.kernels(v) is not cuda or self.node.largest_level > cuda.LARGEST_LEVEL:
            return None
        return cuda.spikes(self.structure(v), v.detach(), self.node.time_steps).to(torch.int16)
