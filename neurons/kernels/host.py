"""The kernels on a processor: built once by the system's C++ compiler, kept in the user's cache, called through ctypes.

The library is built for the very processor that it runs on (-march=native), so its name is a digest of the sources, the
processor's features and the OpenMP library. Where it cannot be built, `load` returns None and says so once.
"""

import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from ctypes import CDLL, POINTER, Structure, byref, c_int, c_void_p
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from las_sj.neurons.buffers import BUFFERS
from las_sj.neurons.kernels import kernel_cache, openmp
from las_sj.neurons.kernels.structures import Counts, Currents, Gates, Mask, Norm, Softmax, Thresholds

SOURCES = Path(__file__).parent
# What is compiled.
FILES = ("host.cpp", "host_layers.h", "host_neurons.h", "host_fast.h", "host_blocks.h", "host_values.h", "neuron.h")
DTYPES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3}  # `Type` of host.cpp
# No contraction: a product and a sum in one rounding would differ from the torch code.
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fPIC")
NATIVE = ("-march=native", *(("-mprefer-vector-width=512",) if platform.machine() in ("x86_64", "AMD64") else ()))
THREADS = ("-fopenmp",)
_RUN = 5  # dimensions of `Currents`

_log = logging.getLogger("las_sj")


@cache
def load() -> CDLL | None:
    """The compiled library, built if it is not in the cache; None where it cannot be built or loaded."""
    try:
        built = CDLL(str(_built()))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip() or type(error).__name__
        _log.warning(
            "las_sj runs its neurons on torch, without its faster kernels for processors: %s. "
            "They need a C++ compiler (g++ or clang++) and a folder to keep them in ($LAS_SJ_CACHE).",
            reason.splitlines()[-1],
        )
        return None
    for function, neurons in ((built.las_thresholds, Thresholds), (built.las_gates, Gates)):
        function.restype = None
        function.argtypes = [POINTER(neurons), POINTER(Currents), c_int, c_void_p, c_void_p, c_void_p, c_int]
        function.argtypes += [c_void_p, POINTER(Counts), c_int]
    for layer, inputs in (
        (built.las_norm, (Norm, Currents)),
        (built.las_softmax, (Softmax, Currents, Mask)),
        (built.las_gated, (Gates, Thresholds, Thresholds, Currents, Currents)),
    ):
        layer.restype = None
        layer.argtypes = [*(POINTER(kind) for kind in inputs), c_int, c_void_p, c_void_p, c_void_p, c_int]
    return built


def compiler() -> list[str]:
    """The command of the C++ compiler: $CXX, or else g++ or clang++.

    Raises:
        FileNotFoundError: there is none.
    """
    named = shlex.split(os.environ.get("CXX", ""))
    if named and not shutil.which(named[0]):
        raise FileNotFoundError(f"$CXX names {named[0]}, which was not found")
    for command in [named] if named else [["g++"], ["clang++"]]:
        if shutil.which(command[0]):
            return command
    raise FileNotFoundError("no C++ compiler was found")


def build(output: Path, flags: Sequence[str], runtime: Path | None = None) -> None:
    """Compile host.cpp.

    Args:
        output: the library.
        flags: of the compiler, besides those that the results depend on.
        runtime: the OpenMP library to link it to; the compiler's own if None.

    Raises:
        CalledProcessError: the compiler failed; its `stderr` says why.
    """
    source = str(SOURCES / "host.cpp")
    if runtime is None:
        return _compile([*FLAGS, *flags, "-shared", source, "-o", str(output)])
    unlinked = output.with_suffix(".o")
    _compile([*FLAGS, *flags, "-c", source, "-o", str(unlinked)])
    _compile(
        ["-shared", str(unlinked), str(runtime), "-o", str(output)]
    )  # without -fopenmp, which adds the compiler's own
    unlinked.unlink()


def _compile(arguments: Sequence[str]) -> None:
    subprocess.run([*compiler(), *arguments], check=True, capture_output=True, text=True, errors="replace")


def _built() -> Path:
    return kernel_cache.kept_or_built(f"host-{_digest()}.so", _build_for_this_processor)


def _build_for_this_processor(output: Path) -> None:
    folder = kernel_cache.folder()
    _log.warning("building kernels for this processor, once, into %s (some 20 seconds)", folder)
    runtime = openmp.runtime_of_torch()
    try:
        build(output, (*NATIVE, *THREADS), runtime)
    except subprocess.CalledProcessError:  # clang comes without OpenMP: one thread is better than none
        build(output, NATIVE)


def _digest() -> str:
    sources = [(SOURCES / name).read_text(encoding="utf-8") for name in FILES]
    runtime = openmp.runtime_of_torch()
    parts = [*sources, *FLAGS, *NATIVE, _features(), "" if runtime is None else runtime.name]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _features() -> str:
    """What -march=native depends on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []
    wanted = ("flags", "Features", "model name")
    return "\n".join([platform.machine(), *(next((line for line in lines if line.startswith(w)), "") for w in wanted)])


def emit(
    neurons: Structure,
    currents: Tensor,
    time_steps: int | None,
    counted: bool,
    kept: Tensor | None,
    membrane: bool,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor | None, Counts]:
    """Run a population over one window.

    Args:
        neurons: `Thresholds` or `Gates`.
        currents: [S, ...], in any of `DTYPES`, on the CPU; summed over S.
        time_steps: T for trains; None for their sums.
        counted: whether spikes are counted.
        kept: receives the spikes of each neuron, with its flag of outliers, int8 [N]; or None.
        membrane: whether the membrane potential is wanted.
        out: receives the trains or sums, contiguous; a new tensor if None.

    Returns:
        Trains [T, ...] or sums [...]; the membrane potential [...], fp32 for half precision, or None; the counts.
    """
    built = load()
    assert built is not None
    shape = currents.shape[1:]
    window, currents = described(currents)
    emitted = shape if time_steps is None else (time_steps, *shape)
    total = BUFFERS.empty(emitted, currents) if out is None else out
    v = torch.empty(shape, dtype=torch.promote_types(currents.dtype, torch.float32)) if membrane else None
    counts = Counts()
    function = built.las_gates if isinstance(neurons, Gates) else built.las_thresholds
    function(
        neurons,
        window,
        DTYPES[currents.dtype],
        None if v is None else v.data_ptr(),
        total.data_ptr() if time_steps is None else None,
        None if time_steps is None else total.data_ptr(),
        counted,
        None if kept is None else kept.data_ptr(),
        byref(counts),
        torch.get_num_threads(),
    )
    return total, v, counts


def has_layers(name: str, x: Tensor) -> bool:
    """Whether there is a kernel of a whole layer, `name` in `emit_layer`, for inputs like `x`."""
    return x.dtype in DTYPES


def emit_unobserved(neurons: Structure, x: Tensor, time_steps: int | None) -> tuple[Tensor, int]:
    """As `emit`, by fewer steps of Python.

    Args:
        neurons: `Thresholds` or `Gates`.
        x: contiguous; currents [S, ...] where trains are wanted, else sums [...].
        time_steps: T for trains; None for their sums.

    Returns:
        Trains [T, ...] or sums [...]; how many inputs lay out of range.
    """
    built = load()
    assert built is not None
    steps = 1 if time_steps is None else x.shape[0]
    size = x.numel() // steps
    if time_steps in (None, steps) and x.nbytes < BUFFERS.least_bytes:
        y = torch.empty_like(x)
    else:
        y = BUFFERS.empty(x.shape if time_steps is None else (time_steps, *x.shape[1:]), x)
    counts = Counts()
    window = Currents(x.data_ptr(), steps, size, 1, 1, 1, size, size, size, size)
    total, train = (y.data_ptr(), None) if time_steps is None else (None, y.data_ptr())
    function = built.las_gates if isinstance(neurons, Gates) else built.las_thresholds
    threads = torch.get_num_threads()
    function(neurons, window, DTYPES[x.dtype], None, total, train, False, None, byref(counts), threads)
    return y, counts.beyond


def emit_layer(
    name: str, inputs: Sequence[Structure], shape: Sequence[int], currents: Tensor, as_train: bool, populations: int
) -> tuple[Tensor, list[Counts]]:
    """Run the populations of a whole layer over one window.

    Args:
        name: of the function in host.cpp.
        inputs: its first arguments.
        shape: of the output.
        currents: a tensor of its type.
        as_train: whether the output is trains, and not their sums.
        populations: how many there are.

    Returns:
        The output; the counts of each population.
    """
    built = load()
    assert built is not None
    output = BUFFERS.empty(shape, currents)
    counts = (Counts * populations)()
    total, train = (None, output.data_ptr()) if as_train else (output.data_ptr(), None)
    getattr(built, name)(*inputs, DTYPES[currents.dtype], total, train, counts, torch.get_num_threads())
    return output, list(counts)


def described(currents: Tensor) -> tuple[Currents, Tensor]:
    """A tensor [S, ...] as the kernels see it: itself, or a contiguous copy where it has too many different strides."""
    steps, step_stride = currents.shape[0], currents.stride(0)
    if steps == 0 or currents.is_contiguous() or currents[0].is_contiguous():
        size = currents.numel() // max(steps, 1)
        return Currents(currents.data_ptr(), steps, step_stride, 1, 1, 1, size, size, size, size), currents
    sizes, strides = _collapsed(currents.shape[1:], currents.stride()[1:])
    if len(sizes) >= _RUN or strides[-1] != 1:
        return described(currents.contiguous())
    sizes, strides = [1] * (4 - len(sizes)) + sizes, [0] * (4 - len(strides)) + strides
    return Currents(currents.data_ptr(), steps, step_stride, *sizes, *strides[:3]), currents


def _collapsed(shape: Sequence[int], stride: Sequence[int]) -> tuple[list[int], list[int]]:
    """Dimensions with neighbours that follow each other in memory made one."""
    sizes, strides = [1], [1]
    for size, step in zip(shape, stride, strict=True):
        if size == 1:
            continue
        if sizes[-1] == 1:
            sizes[-1], strides[-1] = size, step
        elif strides[-1] == size * step:
            sizes[-1], strides[-1] = sizes[-1] * size, step
        else:
            sizes.append(size)
            strides.append(step)
    return sizes, strides
