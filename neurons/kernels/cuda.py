"""The kernels on a GPU: compiled by CuPy at first use, run on torch's tensors and current stream, without copies.

Nothing here waits for the GPU: counts stay on it until somebody reads them. Where CuPy is missing or cannot compile,
`available` says so once and the neurons run on torch.
"""

import hashlib
import importlib
import logging
from ctypes import Structure
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from las_sj.neurons.kernels.structures import Gates

SOURCES = Path(__file__).parent
FILES = ("cuda.cu", "neuron.h")
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
OPTIONS = ("--std=c++17", "--fmad=false", f"-I{SOURCES}")  # no contraction, as in host.py
LARGEST_LEVEL = 127  # of spikes as int8

THREADS = 256  # of a block
_BLOCKS = 16  # for each multiprocessor
_ALIGNMENT = 16  # bytes of a pack of inputs

_log = logging.getLogger("las_sj")


@dataclass(frozen=True)
class DeviceCounts:
    """As `structures.Counts`, each a tensor on the GPU."""

    spikes: Tensor
    outliers: Tensor
    beyond: Tensor


@cache
def available() -> bool:
    """Whether CuPy is there and compiles the kernels for the current device."""
    try:
        _kernel("thresholds_float32_packed", torch.cuda.current_device())
    except ImportError:
        version = (torch.version.cuda or "13").split(".")[0]
        reason = f"CuPy is not installed (pip install cupy-cuda{version}x)"
    except Exception as error:  # CuPy has no common class for what drivers and compilers may report
        reason = f"CuPy cannot compile them ({str(error).strip().splitlines()[-1]})"
    else:
        return True
    _log.warning("las_sj runs its neurons on torch, without its faster kernels for GPUs: %s.", reason)
    return False


@cache
def _kernel(name: str, device: int) -> Any:
    return _module(device).get_function(name)


@cache
def _module(device: int) -> Any:
    cupy = importlib.import_module("cupy")
    with cupy.cuda.Device(device):
        return cupy.RawModule(code=source(), options=OPTIONS)


def source() -> str:
    """cuda.cu and a digest of its header: CuPy looks for what it compiled before by the source alone."""
    code, header = ((SOURCES / name).read_text(encoding="utf-8") for name in FILES)
    return f"{code}\n// {FILES[1]}: {hashlib.sha256(header.encode()).hexdigest()}\n"


@cache
def _most_blocks(device: int) -> int:
    return int(_BLOCKS * torch.cuda.get_device_properties(device).multi_processor_count)


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
    total = currents.new_empty(shape if time_steps is None else (time_steps, *shape)) if out is None else out
    real = torch.promote_types(currents.dtype, torch.float32)
    v = torch.empty(shape, dtype=real, device=currents.device) if membrane else None
    counts = torch.zeros(3, dtype=torch.int64, device=currents.device)
    outputs = (v, total, None, None) if time_steps is None else (v, None, total, None)
    _launch(neurons, currents, (*outputs, kept, counts))
    return total, v, DeviceCounts(*counts.unbind())


def has_layers(x: Tensor) -> bool:
    """Whether there are kernels of whole layers for inputs like `x`."""
    return False


def spikes(neurons: Structure, v: Tensor, time_steps: int) -> Tensor:
    """The spikes of membrane potentials [...] as signed levels, int8 [T, ...], of codes with at most 63 levels."""
    levels = torch.empty((time_steps, *v.shape), dtype=torch.int8, device=v.device)
    _launch(neurons, v.unsqueeze(0), (None, None, None, levels, None, None))
    return levels


@dataclass(frozen=True)
class Launch:
    """A kernel's name, how many blocks of `THREADS` threads run it, and its arguments, all of 8 bytes.

    `currents` is the tensor that the arguments point to.
    """

    name: str
    blocks: int
    arguments: tuple[np.int64, ...]
    currents: Tensor


def prepare(neurons: Structure, currents: Tensor, outputs: tuple[Tensor | None, ...], most_blocks: int) -> Launch:
    """The launch for currents [S, ...] of any stride between steps, not empty.

    Args:
        neurons: `Thresholds` or `Gates`.
        currents: in any of `DTYPES`.
        outputs: membrane, total, train, levels, kept and counts, as in cuda.cu.
        most_blocks: threads of more blocks take turns.
    """
    if not currents[0].is_contiguous():
        currents = currents.contiguous()
    size, stride, pack = currents[0].numel(), currents.stride(0), _ALIGNMENT // currents.element_size()
    fits = size % pack == 0 and stride % pack == 0 and currents.data_ptr() % _ALIGNMENT == 0
    kind = "gates" if isinstance(neurons, Gates) else "thresholds"
    dtype = str(currents.dtype).removeprefix("torch.")
    needed = -(-size // (THREADS * (pack if fits else 1)))
    numbers = (currents.data_ptr(), len(currents), stride, size, *map(_address, outputs))
    arguments = tuple(np.int64(number) for number in (_on_device(neurons, currents.device).data_ptr(), *numbers))
    name = f"{kind}_{dtype}_{'packed' if fits else 'single'}"
    return Launch(name, min(needed, most_blocks), arguments, currents)


def _launch(neurons: Structure, currents: Tensor, outputs: tuple[Tensor | None, ...]) -> None:
    if currents[0].numel() == 0:
        return
    device = currents.device.index
    launch = prepare(neurons, currents, outputs, _most_blocks(device))
    cupy = importlib.import_module("cupy")
    with cupy.cuda.Device(device), cupy.cuda.ExternalStream(torch.cuda.current_stream(device).cuda_stream):
        _kernel(launch.name, device)((launch.blocks,), (THREADS,), launch.arguments)


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _on_device(neurons: Structure, device: torch.device) -> Tensor:
    """The structure's bytes in the GPU's memory, copied once."""
    copy: Tensor | None = getattr(neurons, "device_copy", None)
    if copy is None:
        copy = torch.frombuffer(bytearray(neurons), dtype=torch.uint8).to(device)
        neurons.device_copy = copy  # type: ignore[attr-defined]
    return copy
