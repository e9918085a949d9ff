"""The kernels of cuda.cu as NVIDIA's compilers see them: registers, spills, and which instructions there are."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import torch

from las_sj.neurons.kernels import cuda_driver

OTHERS = [pytest.param(name, marks=pytest.mark.architectures) for name in ("sm_80", "sm_100")]  # a minute each
ARCHITECTURES = ["sm_90", *OTHERS]
MOST_REGISTERS = 64  # so that 1,024 threads run at once on a multiprocessor
MOST_REGISTERS_OF_FP64 = 128
PARTS = ("PLAIN", "THRESHOLDS", "GATES", "TABLES", "NORM", "SOFTMAX", "GATED")
KERNELS = 136
FP64 = ".f64"  # of an instruction or a register

needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")


@cache
def compiled(architecture: str, folder: Path) -> tuple[Path, str]:
    """A library for an architecture, and what the assembler says."""
    output = folder / f"cuda.{architecture}.cubin"
    flags = ["-std=c++17", "--fmad=false", "-Werror=all-warnings", f"-arch={architecture}", "-cubin", "-o", str(output)]
    command = ["nvcc", *flags, "-Xptxas=-v", str(cuda_driver.SOURCES / "cuda.cu")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return output, result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cubins")


@needs_nvcc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_registers(architecture: str, folder: Path) -> None:
    """Few, and none of them spilt to memory."""
    report = compiled(architecture, folder)[1]
    used = dict(re.findall(r"Compiling entry function '(\w+)'.*?Used (\d+) registers", report, re.DOTALL))
    assert len(used) == KERNELS
    for kernel, registers in used.items():
        most = MOST_REGISTERS_OF_FP64 if "float64" in kernel else MOST_REGISTERS
        assert int(registers) <= most, f"{kernel} uses {registers} registers"
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert len(spills) >= KERNELS
    assert {*spills} == {("0", "0")}, report


@needs_nvcc
@pytest.mark.parametrize("part", PARTS)
def test_fp64_only_where_it_is_asked_for(part: str, tmp_path: Path) -> None:
    """GPUs for games and graphics have one unit of it for 64 of fp32."""
    assert FP64 not in assembly(part, torch.bfloat16, tmp_path)
    if part != "TABLES":
        assert FP64 not in assembly(part, torch.float32, tmp_path)
    if part in ("PLAIN", "NORM", "SOFTMAX", "GATED"):
        assert FP64 in assembly(part, torch.float64, tmp_path)


def assembly(part: str, dtype: torch.dtype, folder: Path) -> str:
    """A part of cuda.cu for one type in PTX."""
    output = folder / "cuda.ptx"
    given = [option for option in cuda_driver.options(part, dtype) if option.startswith(("-D", "-I"))]
    command = ["nvcc", "-std=c++17", "--fmad=false", "-arch=compute_90", "-ptx", *given, "-o", str(output)]
    source = str(cuda_driver.SOURCES / "cuda.cu")
    subprocess.run([*command, source], capture_output=True, check=True)
    return output.read_text(encoding="utf-8")


@pytest.mark.parametrize("part", PARTS)
def test_the_compiler_that_cupy_uses_compiles_every_part(part: str) -> None:
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="no NVRTC")
    dtypes = (torch.bfloat16,) if part == "TABLES" else (torch.float32, torch.bfloat16)
    for dtype in dtypes:
        _, program = nvrtc.nvrtcCreateProgram(cuda_driver.source().encode(), b"cuda.cu", 0, [], [])
        given = (*cuda_driver.options(part, dtype), "--gpu-architecture=sm_90")
        (result,) = nvrtc.nvrtcCompileProgram(program, len(given), [option.encode() for option in given])
        _, size = nvrtc.nvrtcGetProgramLogSize(program)
        log = b" " * (size + 1)  # written in place, and Python has only one object for all bytes of length 1
        nvrtc.nvrtcGetProgramLog(program, log)
        assert result == nvrtc.nvrtcResult.NVRTC_SUCCESS, log.decode()
        assert not log.strip(b"\0 \n"), log.decode()
