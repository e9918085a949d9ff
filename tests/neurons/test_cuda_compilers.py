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
def compiled(architecture: str, folder: Path) -> tuple[str, str]:
    """All kernels for an architecture in PTX, and what the assembler says."""
    kept = folder / architecture
    kept.mkdir()
    flags = ["-std=c++17", "--fmad=false", "-Werror=all-warnings", f"-arch={architecture}", "-cubin", "-Xptxas=-v"]
    files = ["-o", kept / "cuda.cubin", "--keep", "--keep-dir", kept, cuda_driver.SOURCES / "cuda.cu"]
    result = subprocess.run(["nvcc", *flags, *files], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return (kept / "cuda.ptx").read_text(encoding="utf-8"), result.stderr


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
def test_fp64_only_where_it_is_asked_for(folder: Path) -> None:
    """GPUs for games and graphics have one unit of it for 64 of fp32."""
    functions = functions_of(compiled("sm_90", folder)[0])
    kernels = {name for name, text in functions.items() if text.startswith(".visible .entry")}
    assert len(kernels) == KERNELS

    def is_wide(name: str) -> bool:
        called = (other for other in functions.keys() - kernels - {name} if other in functions[name])
        return FP64 in functions[name] or any(map(is_wide, called))

    assert {name for name in kernels if is_wide(name)} == {name for name in kernels if "float64" in name}


def functions_of(ptx: str) -> dict[str, str]:
    """The kernels, and what they call: all that was not written in line."""
    parts = re.split(r"^(?=\.(?:visible \.entry|func) )", ptx, flags=re.MULTILINE)[1:]
    names = [re.search(r"(\w+)\s*\(\n", part) for part in parts]
    return {name[1]: part for name, part in zip(names, parts, strict=True) if name}  # declared first, then defined


@pytest.mark.parametrize("part", PARTS)
def test_the_compiler_that_cupy_uses_compiles_every_part(part: str) -> None:
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="no NVRTC")
    dtypes = (torch.bfloat16,) if part == "TABLES" else (torch.float32, torch.bfloat16)
    for dtype in dtypes:
        _, program = nvrtc.nvrtcCreateProgram(cuda_driver.source().encode(), b"cuda.cu", 0, [], [])
        given = (*cuda_driver.options(part, dtype), "--gpu-architecture=compute_90")  # the assembler is nvcc's, too
        (result,) = nvrtc.nvrtcCompileProgram(program, len(given), [option.encode() for option in given])
        _, size = nvrtc.nvrtcGetProgramLogSize(program)
        log = b" " * (size + 1)  # written in place, and Python has only one object for all bytes of length 1
        nvrtc.nvrtcGetProgramLog(program, log)
        assert result == nvrtc.nvrtcResult.NVRTC_SUCCESS, log.decode()
        assert not log.strip(b"\0 \n"), log.decode()
