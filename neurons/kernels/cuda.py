"""The kernels on a GPU: compiled by CuPy at first use, run on torch's tensors and current stream, without copies.

Nothing here waits for the GPU: counts stay on it until somebody reads them. Where CuPy is missing or cannot compile,
`available` says so once and the neurons run on torch.
"""

from collections.abc import Sequence
from ctypes import Structure
from dataclasses import dataclass

import torch
from torch import Tensor

from las_sj.neurons.kernels import cuda_driver, cuda_layers, host
from las_sj.neurons.kernels.cuda_driver import DTYPES, Launch, available
from las_sj.neurons.kernels.cuda_neurons import (
    MOST_STEPS,
    bytes_of,
    coder_of,
    curve_of,
    is_quick,
    is_usual,
    versions_of,
    wait_for,
)
from las_sj.neurons.kernels.structures import (
    Coder,
    Currents,
    Gates,
    LookUpLaunch,
    PlainLaunch,
    Thresholds,
    WindowLaunch,
)

__all__ = [
    "DTYPES",
    "LARGEST_LEVEL",
    "DeviceCounts",
    "available",
    "described",
    "emit",
    "emit_layer",
    "has_layers",
    "spikes",
]

HALF = (torch.float16, torch.bfloat16)
LARGEST_LEVEL = 127  # of spikes as int8
LEAST_LOOKED_UP = 1 << 21  # elements: for fewer, fetching a table costs more than it saves

_PACK_BYTES = 16
_PATTERNS = 1 << 16
_TABLE_BYTES = {Thresholds: _PATTERNS, Gates: 2 * _PATTERNS}  # odd functions need half
_FITS_TWICE = 113 << 10  # bytes of shared memory that leave room for another block

# Threads of a block, as cuda.cu has them, and blocks for each multiprocessor: as many as run at once, or more where
# they write much.
_PLAIN, _SUMS, _TRAINS, _GATES, _TABLES = (256, 16), (256, 8), (256, 32), (512, 4), (1024, 2)


@dataclass(frozen=True)
class DeviceCounts:
    """As `structures.Counts`, each a tensor on the GPU."""

    spikes: Tensor
    outliers: Tensor
    beyond: Tensor


def _launch(what: Launch, device: torch.device) -> None:
    cuda_driver.launch(what, device.index)


def _facts(device: torch.device) -> cuda_driver.Facts:
    return cuda_driver.facts(device.index)


def emit(
    neurons: Structure,
    currents: Tensor,
    time_steps: int | None,
    counted: bool,
    kept: Tensor | None,
    membrane: bool,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor | None, DeviceCounts]:
    """Run a population over one window; as `host.emit`, in any of `DTYPES`."""
    shape = currents.shape[1:]
    emitted = currents.new_empty(shape if time_steps is None else (time_steps, *shape)) if out is None else out
    counts = torch.zeros(3, dtype=torch.int64, device=currents.device)
    v = None
    if emitted.numel():
        currents = currents if currents[0].is_contiguous() else currents.contiguous()
        what = None
        if kept is None and not membrane:
            what = _quick(neurons, currents, emitted, counts, as_train=time_steps is not None, counted=counted)
        if what is None:
            real = torch.promote_types(currents.dtype, torch.float32)
            v = torch.empty(shape, dtype=real, device=currents.device) if membrane else None
            outputs = (None, emitted) if time_steps is not None else (emitted, None)
            what = _plain(neurons, currents, (v, *outputs, None, kept, counts))
        _launch(what, currents.device)
    elif membrane:
        v = torch.empty(shape, dtype=torch.promote_types(currents.dtype, torch.float32), device=currents.device)
    return emitted, v, DeviceCounts(*counts.unbind())


def emit_unobserved(neurons: Structure, x: Tensor, time_steps: int | None, counter: Tensor) -> Tensor:
    """Run a population over one window for nothing but what it emits.

    Args:
        neurons: `Thresholds` or `Gates`.
        x: currents [S, ...] for trains [T, ...], or their sum [...].
        time_steps: T for trains; None for sums.
        counter: int64 [1, 3], to which inputs out of range are added.
    """
    currents = x.unsqueeze(0) if time_steps is None else x
    shape = currents.shape[1:]
    emitted = currents.new_empty(shape if time_steps is None else (time_steps, *shape))
    if not emitted.numel():
        return emitted
    currents = currents if currents[0].is_contiguous() else currents.contiguous()
    what = _quick(neurons, currents, emitted, counter, as_train=time_steps is not None, counted=False)
    if what is None:
        outputs = (None, emitted) if time_steps is not None else (emitted, None)
        what = _plain(neurons, currents, (None, *outputs, None, None, counter))
    _launch(what, currents.device)
    return emitted


def spikes(neurons: Structure, v: Tensor, time_steps: int) -> Tensor:
    """The spikes of membrane potentials [...] as signed levels, int8 [T, ...], of codes with at most 63 levels."""
    levels = torch.empty((time_steps, *v.shape), dtype=torch.int8, device=v.device)
    if levels.numel():
        _launch(_plain(neurons, v.contiguous().unsqueeze(0), (None, None, None, levels, None, None)), v.device)
    return levels


def has_layers(name: str, x: Tensor) -> bool:
    """Whether there is a kernel of a whole layer for inputs like `x`; as `host.has_layers`."""
    return x.dtype in DTYPES and cuda_layers.has_room(name, x, _facts(x.device).shared_bytes)


def described(currents: Tensor) -> tuple[Currents, Tensor]:
    """A tensor [S, ...] as the kernels of layers see it: itself, or a copy with contiguous steps."""
    return host.described(currents if currents[0].is_contiguous() else currents.contiguous())


def emit_layer(
    name: str,
    inputs: Sequence[Structure],
    shape: Sequence[int],
    currents: Tensor,
    as_train: bool,
    counts: Tensor,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Run the populations of a whole layer over one window; as `host.emit_layer`, in any of `DTYPES`.

    `counts` is int64 [populations, 3]; what is counted is added to it. `dtype` is what a softmax of fp32 emits its sums
    in, where it is not fp32.
    """
    emitted = currents.new_empty(shape, dtype=dtype)
    facts = _facts(currents.device)
    what = cuda_layers.prepare(name, inputs, currents.dtype, emitted, counts, facts, as_train=as_train)
    _launch(what, currents.device)
    return emitted


# --------------------------------------------------------------------------------------------------- which kernel runs


def _blocks(per_block: int, size: int, per_multiprocessor: int, device: torch.device) -> int:
    return min(-(-size // per_block), per_multiprocessor * _facts(device).multiprocessors)


def _fits(currents: Tensor, size: int) -> bool:
    """Whether currents [S, size] can be read in packs."""
    pack = _PACK_BYTES // currents.element_size()
    stride = currents.stride(0) if len(currents) > 1 else 0
    return size % pack == 0 and stride % pack == 0 and currents.data_ptr() % _PACK_BYTES == 0


def _plain(neurons: Structure, currents: Tensor, outputs: tuple[Tensor | None, ...]) -> Launch:
    """The launch of a plain kernel, with outputs as in `PlainLaunch`."""
    size = currents[0].numel()
    fits = _fits(currents, size)
    kind = "gates" if isinstance(neurons, Gates) else "thresholds"
    if isinstance(neurons, Gates) and currents.dtype != torch.float64:
        neurons = curve_of(neurons).curve
    addresses = (None if tensor is None else tensor.data_ptr() for tensor in outputs)
    tail = PlainLaunch(currents.data_ptr(), len(currents), currents.stride(0), size, *addresses)
    threads, per_multiprocessor = _PLAIN
    pack = min(_PACK_BYTES // currents.element_size(), 4) if fits else 1
    blocks = _blocks(threads * pack, size, per_multiprocessor, currents.device)
    name = f"plain_{kind}_{DTYPES[currents.dtype][0]}_{'packed' if fits else 'single'}"
    return Launch("PLAIN", name, currents.dtype, blocks, threads, 0, bytes_of(neurons, tail))


def _quick(
    neurons: Structure, currents: Tensor, emitted: Tensor, counts: Tensor, *, as_train: bool, counted: bool
) -> Launch | None:
    """The launch of a faster kernel, where there is one; plain kernels serve the rest."""
    size = currents[0].numel()
    if currents.dtype == torch.float64 or not _fits(currents, size) or emitted.data_ptr() % _PACK_BYTES:
        return None
    if not as_train and not counted and len(currents) == 1:
        looked_up = _look_up(neurons, currents, size, emitted, counts)
        if looked_up is not None:
            return looked_up
    steps, stride = len(currents), currents.stride(0)
    tail = WindowLaunch(currents.data_ptr(), steps, stride, size, emitted.data_ptr(), counts.data_ptr())
    what = "trains" if as_train else "sums"
    if isinstance(neurons, Gates):
        return _gates(neurons, currents, tail, what, counted=counted)
    assert isinstance(neurons, Thresholds)
    return _thresholds(neurons, currents, tail, what, counted=counted)


def _thresholds(
    neurons: Thresholds, currents: Tensor, tail: WindowLaunch, what: str, *, counted: bool
) -> Launch | None:
    if not is_quick(neurons):
        return None
    code = neurons.code
    rule = "nearest" if code.nearest else "floor"
    if what == "sums" and code.levels == 1 < code.time_steps and not counted:
        rule += "_closed"
    elif what == "sums" and is_usual(neurons):
        rule = "usual"
    name = f"threshold_{what}_{DTYPES[currents.dtype][0]}_{rule}{'_counted' if counted else ''}"
    threads, per_multiprocessor = _SUMS if what == "sums" else _TRAINS
    pack = _PACK_BYTES // currents.element_size()
    blocks = _blocks(threads * pack, tail.size, per_multiprocessor, currents.device)
    parameter = bytes_of(coder_of(neurons, Coder), tail)
    return Launch("THRESHOLDS", name, currents.dtype, blocks, threads, 0, parameter)


def _gates(gates: Gates, currents: Tensor, tail: WindowLaunch, what: str, *, counted: bool) -> Launch | None:
    packed = curve_of(gates)
    if gates.time_steps > MOST_STEPS or packed.shared_bytes > _facts(currents.device).shared_bytes:
        return None
    kind = "grid" if gates.is_grid else "octaves"
    name = f"gate_{what}_{DTYPES[currents.dtype][0]}_{kind}{'_counted' if counted else ''}"
    threads, per_multiprocessor = _GATES
    pack = _PACK_BYTES // currents.element_size()
    blocks = _blocks(threads * pack, tail.size, min(per_multiprocessor, _at_once(packed.shared_bytes)), currents.device)
    return Launch("GATES", name, currents.dtype, blocks, threads, packed.shared_bytes, bytes_of(packed.curve, tail))


def _at_once(shared_bytes: int) -> int:
    """How many blocks with so much shared memory a multiprocessor runs at once."""
    return 1 if shared_bytes > _FITS_TWICE else 2 if shared_bytes > _FITS_TWICE // 2 else 4


# -------------------------------------------------------------------------------------------------------------- tables


@dataclass(frozen=True)
class LookUp:
    """What a population gives for all patterns of 16 bits.

    Attributes:
        table: the sums, [65536].
        made_for: the thresholds, [2], or nothing.
        versions: of the population's tables.
    """

    table: Tensor
    made_for: Tensor | None
    versions: tuple[int, ...]


def _look_up(neurons: Structure, currents: Tensor, size: int, emitted: Tensor, counts: Tensor) -> Launch | None:
    """The launch that looks up sums in half precision, where it pays and the population stays what it is."""
    if currents.dtype not in HALF or size < LEAST_LOOKED_UP or not getattr(neurons, "is_kept", False):
        return None
    bytes_of_table = _TABLE_BYTES[type(neurons)]
    if _facts(currents.device).shared_bytes < bytes_of_table:
        return None
    if isinstance(neurons, Thresholds) and not is_quick(neurons):
        return None
    found = _table_of(neurons, currents.dtype, currents.device)
    if found is None:
        return None
    kind, what = _coder_or_curve(neurons)
    made_for = None if found.made_for is None else found.made_for.data_ptr()
    addresses = (emitted.data_ptr(), counts.data_ptr(), found.table.data_ptr(), made_for)
    tail = LookUpLaunch(currents.data_ptr(), size, *addresses)
    threads, per_multiprocessor = _TABLES
    pack = _PACK_BYTES // currents.element_size()
    per_multiprocessor = min(per_multiprocessor, _at_once(bytes_of_table))
    blocks = _blocks(threads * pack, size, per_multiprocessor, currents.device)
    name = f"look_up_{kind}_{DTYPES[currents.dtype][0]}"
    return Launch("TABLES", name, currents.dtype, blocks, threads, bytes_of_table, bytes_of(what, tail))


def _coder_or_curve(neurons: Structure) -> tuple[str, Structure]:
    """The word for a population in the names of kernels, and how they know it."""
    if isinstance(neurons, Gates):
        return "gates", curve_of(neurons).curve
    assert isinstance(neurons, Thresholds)
    return "thresholds", coder_of(neurons, Coder)


def _table_of(neurons: Structure, dtype: torch.dtype, device: torch.device) -> LookUp | None:
    """The table of a population, kept with it until somebody writes to its tables; None while a graph is captured."""
    tables: dict[torch.dtype, LookUp] = neurons.__dict__.setdefault("looked_up", {})
    versions = versions_of(neurons.tables)
    found = tables.get(dtype)
    if found is not None and found.versions == versions:
        return found
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return None
    patterns = torch.arange(_PATTERNS, dtype=torch.int32, device=device).to(torch.int16).view(dtype)
    table = torch.empty_like(patterns)
    made_for = torch.stack(list(neurons.tables)).float() if isinstance(neurons, Thresholds) else None
    _launch(_plain(neurons, patterns.unsqueeze(0), (None, table, None, None, None, None)), device)
    wait_for(table)
    tables[dtype] = LookUp(table, made_for, versions)
    return tables[dtype]
