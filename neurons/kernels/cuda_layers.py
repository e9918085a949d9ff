"""Launches of whole layers on a GPU."""

import math
from collections.abc import Mapping, Sequence
from ctypes import Structure
from struct import Struct
from typing import Any, NamedTuple

import torch
from torch import Tensor

from las_sj.neurons.kernels.cuda_driver import DTYPES, Facts, Launch
from las_sj.neurons.kernels.cuda_neurons import MOST_STEPS, bytes_of, coder_of, curve_of, is_usual
from las_sj.neurons.kernels.structures import (
    Coder,
    Currents,
    Curve,
    GatedLaunch,
    Gates,
    Mask,
    Norm,
    NormLaunch,
    Softmax,
    SoftmaxLaunch,
    Thresholds,
    WideCoder,
    WideGatedLaunch,
    WideNormLaunch,
    WideSoftmaxLaunch,
)

_ADDRESS = Struct("=Q")
_MOST_PLANS = 64  # launches that a layer remembers
_WARP = 32
_PACK_BYTES = 16
_PACK = 4  # channels of a norm's thread
_LANES = 16  # of cuda_rows.h: rows in shared memory are padded to so many
_OWN_BYTES = 4 << 10  # of shared memory that kernels of layers have besides what their launch asks for
_FITS_TWICE = 113 << 10  # bytes of shared memory that leave room for another block
_MOST_TABLES = 96 << 10  # bytes of tables that are fetched to shared memory; larger ones are read where they lie
_NORM_THREADS, _NORM_BLOCKS = 256, 8  # of a block at most; for each multiprocessor
_SOFTMAX_THREADS = 512
_GATED_THREADS = 512
_EMITTED_AS = {torch.float16: 1, torch.bfloat16: 2}  # by a softmax of fp32, as cuda_structures.h has them


def has_room(name: str, x: Tensor, shared_bytes: int) -> bool:
    """Whether a row of a norm, twice, fits in shared memory; other layers do without."""
    return name != "las_norm" or _row_bytes(x.shape[-1], x.dtype) <= shared_bytes - _OWN_BYTES


def prepare(
    name: str,
    inputs: Sequence[Structure],
    dtype: torch.dtype,
    emitted: Tensor,
    counts: Tensor,
    facts: Facts,
    *,
    as_train: bool,
) -> Launch:
    """The launch of a layer.

    Args:
        name: of the function in host.cpp that does the same.
        inputs: its first arguments.
        dtype: of inputs and outputs.
        emitted: receives the output; of a softmax of fp32 in half precision too.
        counts: int64 [populations, 3], to which is added.
        facts: of the device.
        as_train: whether the output is trains, and not their sums.
    """
    neurons, settings, pointers = _SEEN[name](inputs)
    pointers |= {"emitted": emitted.data_ptr(), "counts": counts.data_ptr()}
    aligned = all((pointer or 0) % _PACK_BYTES == 0 for pointer in pointers.values())
    versions = () if dtype == torch.float64 else tuple(curve_of(one).versions for one in neurons if type(one) is Gates)
    place = (name, dtype, emitted.dtype, as_train, emitted.numel(), emitted.get_device(), settings, versions, aligned)
    key = (place, tuple(map(id, neurons)))  # which stand in the plan, so that nothing else can have their place
    plans: dict[Any, Plan] = neurons[-1].__dict__.setdefault("layers", {})
    plan = plans.get(key)
    if plan is None:
        if len(plans) >= _MOST_PLANS:
            plans.clear()
        launch = _PREPARED[name](inputs, dtype, emitted, counts, facts, "trains" if as_train else "sums")
        plan = plans[key] = Plan(launch, neurons, _STRUCTURES[name, dtype == torch.float64])
    return plan.at(pointers)


class Plan(NamedTuple):
    """A launch that is known but for addresses.

    Attributes:
        launch: of a call before.
        neurons: whose addresses it holds.
        structure: of its parameter.
    """

    launch: Launch
    neurons: Sequence[Structure]
    structure: type[Structure]

    def at(self, pointers: Mapping[str, int | None]) -> Launch:
        """The launch with these addresses."""
        parameter = bytearray(self.launch.parameter)
        for name, pointer in pointers.items():
            _ADDRESS.pack_into(parameter, getattr(self.structure, name).offset, pointer or 0)
        return self.launch._replace(parameter=parameter)


_Seen = tuple[Sequence[Structure], tuple[Any, ...], dict[str, int | None]]


def _seen_norm(inputs: Sequence[Structure]) -> _Seen:
    """Of a layer: its neurons, what its launch depends on, and where it reads."""
    norm, window = inputs
    assert isinstance(norm, Norm)
    assert isinstance(window, Currents)
    settings = (window.steps, _stride(window), norm.channels, norm.centres, norm.epsilon, norm.gains, norm.bias)
    return tuple(norm.populations), settings, {"currents": window.data}


def _seen_softmax(inputs: Sequence[Structure]) -> _Seen:
    softmax, window, mask = inputs
    assert isinstance(softmax, Softmax)
    assert isinstance(window, Currents)
    assert isinstance(mask, Mask)
    settings = (window.steps, _stride(window), window.run, bytes(mask))
    return tuple(softmax.populations), settings, {"currents": window.data}


def _seen_gated(inputs: Sequence[Structure]) -> _Seen:
    *neurons, gates, ups = inputs
    assert isinstance(gates, Currents)
    assert isinstance(ups, Currents)
    settings = (gates.steps, _stride(gates), ups.steps, _stride(ups))
    return tuple(neurons), settings, {"gates": gates.data, "ups": ups.data}


def _real_size(dtype: torch.dtype) -> int:
    return 8 if dtype == torch.float64 else 4


def _row_bytes(channels: int, dtype: torch.dtype) -> int:
    return 2 * -(-channels // _LANES) * _LANES * _real_size(dtype)


def _curves(gates: Sequence[Gates], dtype: torch.dtype) -> tuple[list[Curve | Gates], int]:
    """Curves as the kernel knows them, and the bytes of the first one's tables that go to shared memory."""
    if dtype == torch.float64:
        return list(gates), 0
    packed = [curve_of(each) for each in gates]
    size = -(-packed[0].shared_bytes // _PACK_BYTES) * _PACK_BYTES
    return [each.curve for each in packed], size if size <= _MOST_TABLES else 0


def _coders(thresholds: Sequence[Thresholds], dtype: torch.dtype) -> list[Coder | WideCoder]:
    if dtype == torch.float64:
        return [coder_of(each, WideCoder) for each in thresholds]
    return [coder_of(each, Coder) for each in thresholds]


def _kind(thresholds: Sequence[Thresholds], gates: Sequence[Gates], dtype: torch.dtype) -> str:
    quick = all(map(is_usual, thresholds)) and all(each.time_steps <= MOST_STEPS for each in gates)
    return "quick" if quick and dtype != torch.float64 else "any"


def _is_whole(dtype: torch.dtype, numbers: Sequence[int], addresses: Sequence[int | None]) -> bool:
    """Whether packs fit these numbers of elements and these addresses."""
    pack = _PACK_BYTES // (torch.finfo(dtype).bits // 8)
    return all(number % pack == 0 for number in numbers) and all((each or 0) % _PACK_BYTES == 0 for each in addresses)


def _stride(window: Currents) -> int:
    return window.step_stride if window.steps > 1 else 0


def _norm(
    inputs: Sequence[Structure], dtype: torch.dtype, emitted: Tensor, counts: Tensor, facts: Facts, what: str
) -> Launch:
    norm, window = inputs
    assert isinstance(norm, Norm)
    assert isinstance(window, Currents)
    centred, scale, output, square, rsqrt = norm.populations
    thresholds, gates = (centred, scale, output), (square, rsqrt)
    curves, table_bytes = _curves(gates, dtype)
    channels, rows = norm.channels, emitted.numel() // _steps(output, what) // norm.channels
    addresses = (window.data, emitted.data_ptr(), norm.gains, norm.bias)
    is_whole = _is_whole(dtype, (channels, _stride(window)), addresses)
    shared_bytes = table_bytes + _row_bytes(channels, dtype)
    if shared_bytes > facts.shared_bytes - _OWN_BYTES:
        table_bytes, shared_bytes = 0, shared_bytes - table_bytes
    launch = (WideNormLaunch if dtype == torch.float64 else NormLaunch)(
        *_coders(thresholds, dtype),
        *curves,
        window.data,
        window.steps,
        _stride(window),
        rows,
        emitted.data_ptr(),
        counts.data_ptr(),
        norm.gains,
        norm.bias,
        channels,
        norm.centres,
        is_whole,
        table_bytes,
        norm.epsilon,
        math.sqrt(norm.epsilon),
        2 * math.sqrt(channels),
    )
    warps = min(max(-(-channels // (_PACK * _WARP)), 1), _NORM_THREADS // _WARP)
    name = f"norm_{DTYPES[dtype][0]}_{_kind(thresholds, gates, dtype)}_{what}"
    blocks = min(rows, _NORM_BLOCKS * facts.multiprocessors)
    return Launch("NORM", name, dtype, blocks, warps * _WARP, shared_bytes, bytes_of(launch))


def _steps(last: Thresholds, what: str) -> int:
    return last.code.time_steps if what == "trains" else 1


def _softmax(
    inputs: Sequence[Structure], dtype: torch.dtype, emitted: Tensor, counts: Tensor, facts: Facts, what: str
) -> Launch:
    softmax, window, mask = inputs
    assert isinstance(softmax, Softmax)
    assert isinstance(window, Currents)
    assert isinstance(mask, Mask)
    exponential, reciprocal, weight, scale, probability = softmax.populations
    thresholds, gates = (weight, scale, probability), (exponential, reciprocal)
    curves, table_bytes = _curves(gates, dtype)
    keys, rows = window.run, emitted.numel() // _steps(probability, what) // window.run
    launch = (WideSoftmaxLaunch if dtype == torch.float64 else SoftmaxLaunch)(
        *_coders(thresholds, dtype),
        *curves,
        window.data,
        window.steps,
        _stride(window),
        rows,
        emitted.data_ptr(),
        counts.data_ptr(),
        mask,
        keys,
        table_bytes,
        0 if emitted.dtype == dtype else _EMITTED_AS[emitted.dtype],
    )
    threads = _SOFTMAX_THREADS if rows >= facts.multiprocessors * _SOFTMAX_THREADS // _WARP else 4 * _WARP
    warps = threads // _WARP
    shared_bytes = table_bytes + warps * keys * _real_size(dtype)
    held = shared_bytes <= facts.shared_bytes - _OWN_BYTES
    shared_bytes = shared_bytes if held else table_bytes
    blocks = min(-(-rows // warps), facts.multiprocessors * (2 if shared_bytes <= _FITS_TWICE else 1))
    kind = _kind(thresholds, gates, dtype)
    name = f"softmax_{'held' if held else 'again'}_{DTYPES[dtype][0]}_{kind}_{what}"
    return Launch("SOFTMAX", name, dtype, blocks, threads, shared_bytes, bytes_of(launch))


def _gated(
    inputs: Sequence[Structure], dtype: torch.dtype, emitted: Tensor, counts: Tensor, facts: Facts, what: str
) -> Launch:
    activation, gate, up, gates, ups = inputs
    assert isinstance(activation, Gates)
    assert isinstance(gate, Thresholds)
    assert isinstance(up, Thresholds)
    assert isinstance(gates, Currents)
    assert isinstance(ups, Currents)
    curves, table_bytes = _curves((activation,), dtype)
    size = emitted.numel() // _steps(gate, what)
    strides = _stride(gates), _stride(ups)
    is_whole = _is_whole(dtype, (size, *strides), (gates.data, ups.data, emitted.data_ptr()))
    launch = (WideGatedLaunch if dtype == torch.float64 else GatedLaunch)(
        *_coders((gate, up), dtype),
        *curves,
        gates.data,
        ups.data,
        gates.steps,
        strides[0],
        ups.steps,
        strides[1],
        size,
        emitted.data_ptr(),
        counts.data_ptr(),
        is_whole,
        table_bytes,
    )
    pack = 1 if dtype == torch.float64 else _PACK if what == "trains" else _PACK_BYTES * 8 // torch.finfo(dtype).bits
    per_multiprocessor = (2 if table_bytes <= _FITS_TWICE else 1) * (4 if what == "trains" else 1)
    blocks = min(-(-size // (pack * _GATED_THREADS)), facts.multiprocessors * per_multiprocessor)
    name = f"gated_{DTYPES[dtype][0]}_{_kind((gate, up), (activation,), dtype)}_{what}"
    return Launch("GATED", name, dtype, blocks, _GATED_THREADS, table_bytes, bytes_of(launch))


_PREPARED = {"las_norm": _norm, "las_softmax": _softmax, "las_gated": _gated}
_SEEN = {"las_norm": _seen_norm, "las_softmax": _seen_softmax, "las_gated": _seen_gated}
_STRUCTURES: dict[tuple[str, bool], type[Structure]] = {
    ("las_norm", False): NormLaunch,
    ("las_norm", True): WideNormLaunch,
    ("las_softmax", False): SoftmaxLaunch,
    ("las_softmax", True): WideSoftmaxLaunch,
    ("las_gated", False): GatedLaunch,
    ("las_gated", True): WideGatedLaunch,
}
