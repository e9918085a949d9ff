"""The kernels of cuda.cu as a processor runs them, for machines without a GPU: their arithmetic and their indices."""

import subprocess
import tempfile
from ctypes import CDLL, Structure, c_longlong, c_uint, c_void_p, cast
from functools import cache
from pathlib import Path

from torch import Tensor

from las_sj.neurons.kernels import cuda, host

BLOCKS = 3  # few, so that threads take turns


@cache
def library() -> CDLL:
    """cuda.cu and a loop over its threads, compiled by the system's C++ compiler."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "emulated_gpu.so"
        source = Path(__file__).with_suffix(".cpp")
        flags = ["-shared", *(flag for flag in host.FLAGS if not flag.startswith("-O"))]
        command = [*host.compiler(), *flags, "-O1", f"-I{cuda.SOURCES}", str(source), "-o", str(output)]
        subprocess.run(command, check=True)
        return CDLL(str(output))


def launch(neurons: Structure, currents: Tensor, outputs: tuple[Tensor | None, ...]) -> None:
    """Takes the place of `cuda._launch`."""
    if currents[0].numel() == 0:
        return
    prepared = cuda.prepare(neurons, currents, outputs, BLOCKS)
    kernel = cast(getattr(library(), prepared.name), c_void_p)
    arguments = [c_longlong(int(number)) for number in prepared.arguments]
    library().launch(kernel, c_uint(prepared.blocks), c_uint(cuda.THREADS), *arguments)
