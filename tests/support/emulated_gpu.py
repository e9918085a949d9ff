"""The kernels of cuda.cu as a processor runs them, where there is no GPU: arithmetic, indices, barriers, shuffles."""

import subprocess
import tempfile
from ctypes import CDLL, addressof, c_char, c_int, c_uint, c_void_p, cast
from functools import cache
from itertools import count
from pathlib import Path

import pytest
import torch

from las_sj.neurons.kernels import cuda, cuda_driver, host

FACTS = cuda_driver.Facts(multiprocessors=1, shared_bytes=227 << 10)  # few, so that blocks take turns

_launches = count()


@cache
def library(part: str, dtype: torch.dtype) -> CDLL:
    """A part of cuda.cu for one type, and what stands in for a GPU, compiled by the system's C++ compiler."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "emulated_gpu.so"
        source = Path(__file__).with_suffix(".cpp")
        flags = [*(flag for flag in host.FLAGS if not flag.startswith("-O")), "-O1", "-U_FORTIFY_SOURCE", "-shared"]
        given = [flag for flag in cuda_driver.options(part, dtype) if flag.startswith(("-I", "-D"))]
        command = [*host.compiler(), *flags, *given, str(source), "-o", str(output)]
        subprocess.run(command, check=True)
        return CDLL(str(output))


def launch(what: cuda_driver.Launch, device: torch.device) -> None:
    """Takes the place of `cuda._launch`; threads take turns in one order, then in the other."""
    assert what.shared_bytes <= FACTS.shared_bytes
    built = library(what.part, what.dtype)
    kernel = cast(getattr(built, what.kernel), c_void_p)
    parameter = c_void_p(addressof(c_char.from_buffer(what.parameter)))
    numbers = map(c_uint, (what.blocks, what.threads, what.shared_bytes))
    came_to_an_end = built.launch(kernel, *numbers, parameter, c_int(next(_launches) % 2))
    assert came_to_an_end, f"threads of {what.kernel} wait for others that do not come"


def instead_of_a_gpu(patch: pytest.MonkeyPatch) -> None:
    """Have `cuda` run on a processor's tensors."""
    patch.setattr(cuda, "_launch", launch)
    patch.setattr(cuda, "_facts", lambda device: FACTS)
