"""Populations as the kernels on a GPU know them: what does not depend on the input, worked out once for each.

What depends on a threshold is not among it: kernels read thresholds where they lie, so that they see each change.
Tables of HG neurons are packed once, and again when somebody has written to them in a way that torch knows of.
"""

from collections.abc import Sequence
from ctypes import Structure
from dataclasses import dataclass
from struct import pack, unpack
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from las_sj.neurons.kernels.structures import FLAT, Coder, Curve, Gates, Thresholds, WideCoder

MOST_STEPS = 22  # T up to which fp32 rounds the digits of HG neurons, and finds spikes, by adding and subtracting
USUAL_SPIKES = 4  # of cuda_thresholds.h

_BITS_OF_WHOLE = 0x4B000000  # of 2^23 in fp32
_MANTISSA_BITS = 23
_GRID_ALLOWANCE = 1e-3  # of neuron.h
_CELLS_OF_A_WORD = 4

AnyCoder = TypeVar("AnyCoder", Coder, WideCoder)


@dataclass(frozen=True)
class PackedCurve:
    """A curve, and the tables in its memory.

    Attributes:
        curve: the structure.
        shared_bytes: of shared memory that the tables take.
        tables: which the structure points to.
        versions: of the tables that it was made of.
    """

    curve: Curve
    shared_bytes: int
    tables: tuple[Tensor, ...]
    versions: tuple[int, ...]


def versions_of(tables: Sequence[Tensor]) -> tuple[int, ...]:
    """How often each table was written to, as far as torch knows."""
    return tuple(0 if table.is_inference() else table._version for table in tables)


def is_quick(neurons: Thresholds) -> bool:
    """Whether the faster kernels know the code of a population."""
    return neurons.channels == 0 and not neurons.code.max_spikes and neurons.code.time_steps <= MOST_STEPS


def is_usual(neurons: Thresholds) -> bool:
    """Whether a code has at most `USUAL_SPIKES` before the last step: "nearest", with some levels."""
    code = neurons.code
    return bool(is_quick(neurons) and code.nearest and code.spike_bound == USUAL_SPIKES < code.time_steps)


def coder_of(neurons: Thresholds, kind: type[AnyCoder]) -> AnyCoder:
    """What the code of a population comes to; kept with it."""
    known: AnyCoder | None = getattr(neurons, kind.__name__, None)
    if known is None:
        known = _coder(neurons, kind)
        setattr(neurons, kind.__name__, known)
    return known


def _coder(neurons: Thresholds, kind: type[AnyCoder]) -> AnyCoder:
    code = neurons.code
    fire_at = code.levels - 0.25 if code.nearest else float(code.levels)
    last = code.levels * 2.0 ** (1 - code.time_steps)
    (bits,) = unpack("<i", pack("<f", fire_at))
    return kind(
        normal=neurons.normal,
        outlier=neurons.outlier,
        unit_of_one=0.5 / code.levels,
        fire_at=fire_at,
        last_at=last / 2,
        last=last,
        least_large=2.0 ** (_MANTISSA_BITS + 1 - code.time_steps),
        to_large=_BITS_OF_WHOLE - bits,
        code=code,
    )


def curve_of(gates: Gates) -> PackedCurve:
    """A population of HG neurons in fp32; kept with it until somebody writes to its tables."""
    known: PackedCurve | None = getattr(gates, "packed", None)
    versions = versions_of(gates.tables)
    if known is None or known.versions != versions:
        known = _packed(gates, versions)
        gates.packed = known
    return known


def _packed(gates: Gates, versions: tuple[int, ...]) -> PackedCurve:
    curve = _settings(gates)
    tables: tuple[Tensor, ...]
    if gates.is_grid:
        cells, *lines = gates.tables
        owners = cells.clamp(0, gates.sub_neurons - 1).to(torch.int16)  # never outside, whatever somebody wrote
        tables = (torch.stack(lines, 1), pad(owners, (0, -len(owners) % _CELLS_OF_A_WORD)))
        curve.cells, curve.sub_neurons = tables[1].data_ptr(), gates.sub_neurons
    else:
        tables = (torch.stack(gates.tables, 1),)
        curve.sub_neurons = len(tables[0])
    curve.lines = tables[0].data_ptr()
    wait_for(tables[0])
    return PackedCurve(curve, sum(table.nbytes for table in tables), tables, versions)


def _settings(gates: Gates) -> Curve:
    """All of a curve but its tables."""
    given = {field[0] for field in Gates._fields_} & {field[0] for field in Curve._fields_}
    settings = {name: getattr(gates, name) for name in given - {"cells", "first_cell", "sub_neurons"}}
    steps, width = gates.time_steps, gates.tail_width
    curve = Curve(**settings, first_cell=int(gates.first_cell))
    curve.inverse_tail_width = 1 / width if width else 0.0
    curve.half_step = width / 2.0 ** (steps + 1)
    coded = _MANTISSA_BITS - gates.per_octave_bits - steps
    curve.ulps = int(gates.octave_shift * (1 << max(coded, 0)))
    curve.octave_shift = gates.octave_shift / 2.0**steps if curve.ulps else 0.0
    curve.low, curve.high = _range_of(gates)
    curve.floor_by, curve.most = 2.0 ** (_MANTISSA_BITS - steps), 1 - 2.0**-steps
    return curve


def _range_of(gates: Gates) -> tuple[float, float]:
    """As `range_of` in neuron.h."""
    if not gates.is_grid:
        return -gates.high if gates.even else gates.low, gates.high
    low = -torch.inf if gates.below == FLAT else gates.low - _GRID_ALLOWANCE
    high = torch.inf if gates.above == FLAT else gates.high + _GRID_ALLOWANCE
    return low, high


def wait_for(table: Tensor) -> None:
    """What was made on one stream may be read on others; a capture is not interrupted."""
    if table.device.type == "cuda" and not torch.cuda.is_current_stream_capturing():
        torch.cuda.current_stream(table.device).synchronize()


def bytes_of(*structures: Structure) -> bytearray:
    """Structures one after the other, as a kernel's parameter has them."""
    parameter = bytearray(structures[0])
    for structure in structures[1:]:
        parameter += structure
    return parameter
