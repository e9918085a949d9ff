"""How kernels get onto a GPU: compiled by CuPy, part by part as they are needed, and launched through CUDA's driver.

Calls of a neuron are many and small, so that what a launch needs is found once: the kernel's handle, what the device
has. The parameter of a kernel is one structure, passed by value.
"""

import hashlib
import importlib
import logging
import sys
from ctypes import CDLL, c_char, c_uint, c_void_p
from ctypes import addressof as address_of
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

SOURCES = Path(__file__).parent
FILES = (
    "cuda.cu",
    "cuda_counts.h",
    "cuda_elements.h",
    "cuda_gated.h",
    "cuda_gates.h",
    "cuda_norm.h",
    "cuda_plain.h",
    "cuda_populations.h",
    "cuda_rows.h",
    "cuda_softmax.h",
    "cuda_structures.h",
    "cuda_tables.h",
    "cuda_thresholds.h",
    "neuron.h",
)
OPTIONS = ("--std=c++17", "--fmad=false", f"-I{SOURCES}")  # no contraction, as in host.py
DTYPES = {
    torch.float32: ("float32", "float"),
    torch.float16: ("float16", "Half"),
    torch.bfloat16: ("bfloat16", "BFloat"),
    torch.float64: ("float64", "double"),
}

_log = logging.getLogger("las_sj")


@dataclass(frozen=True)
class Launch:
    """A kernel, how many blocks of how many threads run it, and its parameter.

    Attributes:
        part: of cuda.cu that has the kernel, such as "THRESHOLDS".
        kernel: its name.
        dtype: of inputs and outputs.
        blocks, threads: of the grid, and of a block.
        shared_bytes: of dynamic shared memory.
        parameter: the bytes of its structure.
    """

    part: str
    kernel: str
    dtype: torch.dtype
    blocks: int
    threads: int
    shared_bytes: int
    parameter: bytearray


@dataclass(frozen=True)
class Facts:
    """What a device has: multiprocessors, and bytes of shared memory that a block may use."""

    multiprocessors: int
    shared_bytes: int


@cache
def available() -> bool:
    """Whether CuPy is there and compiles the kernels for the current device."""
    try:
        _handle("PLAIN", "plain_thresholds_float32_packed", torch.float32, torch.cuda.current_device())
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
def facts(device: int) -> Facts:
    """What a device has."""
    cupy = importlib.import_module("cupy")
    attributes = cupy.cuda.Device(device).attributes
    return Facts(attributes["MultiProcessorCount"], attributes["MaxSharedMemoryPerBlockOptin"])


@cache
def source() -> str:
    """cuda.cu and a digest of its headers: CuPy looks for what it compiled before by the source alone."""
    code, *headers = ((SOURCES / name).read_text(encoding="utf-8") for name in FILES)
    return f"{code}\n// headers: {hashlib.sha256(''.join(headers).encode()).hexdigest()}\n"


def options(part: str, dtype: torch.dtype) -> tuple[str, ...]:
    """Of the compiler, for one part of cuda.cu and one type."""
    name, element = DTYPES[dtype]
    return (*OPTIONS, f"-DLAS_PART=LAS_{part}", f"-DLAS_TYPE={name}", f"-DLAS_ELEMENT={element}")


@cache
def _module(part: str, dtype: torch.dtype, device: int) -> Any:
    cupy = importlib.import_module("cupy")
    with cupy.cuda.Device(device):
        return cupy.RawModule(code=source(), options=options(part, dtype))


@cache
def _handle(part: str, kernel: str, dtype: torch.dtype, device: int) -> tuple[int, Any]:
    """CUDA's handle of a kernel that may use all shared memory of the device, and what keeps it."""
    cupy = importlib.import_module("cupy")
    with cupy.cuda.Device(device):
        function = _module(part, dtype, device).get_function(kernel)
        function.max_dynamic_shared_size_bytes = facts(device).shared_bytes - function.shared_size_bytes
        return function.kernel.ptr, function


@cache
def _driver() -> Any:
    driver = CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    driver.cuLaunchKernel.argtypes = [c_void_p, *[c_uint] * 7, c_void_p, c_void_p, c_void_p]
    return driver


def launch(what: Launch, device: int) -> None:
    """Queue a launch on torch's current stream of a device.

    Raises:
        RuntimeError: CUDA refused it.
    """
    if torch.cuda.current_device() != device:
        with torch.cuda.device(device):
            return launch(what, device)
    handle = _handle(what.part, what.kernel, what.dtype, device)[0]
    stream = torch.cuda.current_stream(device).cuda_stream
    parameters = (c_void_p * 1)(address_of(c_char.from_buffer(what.parameter)))
    grid, block = (what.blocks, 1, 1), (what.threads, 1, 1)
    error = _driver().cuLaunchKernel(handle, *grid, *block, what.shared_bytes, stream, parameters, None)
    if error:
        raise RuntimeError(f"CUDA error {error} when {what.kernel} was launched with {what.blocks} blocks")
