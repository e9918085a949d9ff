"""One pool of threads: kernels run on the OpenMP library that torch has loaded."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from compilers import quick_compiler
from programs import run

from las_sj.neurons import OATNode
from las_sj.neurons.kernels import host, openmp

pytestmark = pytest.mark.skipif(host.load() is None, reason="no C++ compiler")

IN_A_PROCESS = """
import json
import torch
from las_sj.neurons import OATNode
from las_sj.neurons.kernels import host, openmp
x = torch.randn(64, 4096)
torch.mm(x, x.t())
assert host.load() is not None
OATNode(1.0, 4.0, 16, backend="host")(x)
print(json.dumps([path.name for path in openmp.loaded_runtimes()]))
"""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not tell what is loaded")
def test_one_runtime_in_a_process() -> None:
    done = run("-c", IN_A_PROCESS, anew=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 1


def test_torch_has_one() -> None:
    runtime = openmp.runtime_of_torch()
    assert runtime is not None
    assert runtime.exists()


def test_a_runtime_of_another_name_is_linked(tmp_path: Path) -> None:
    """As wheels of torch bring it: libgomp-a34b3233.so.1. The library asks for that one, not for the compiler's."""
    other = tmp_path / "libgomp-a34b3233.so.1"
    source = tmp_path / "runtime.c"
    names = "GOMP_parallel GOMP_barrier GOMP_loop_nonmonotonic_dynamic_start GOMP_loop_nonmonotonic_dynamic_next"
    names += " GOMP_loop_end_nowait GOMP_loop_end omp_get_num_threads omp_get_thread_num omp_get_max_threads"
    source.write_text("".join(f"void {name}(void) {{}}\n" for name in names.split()), encoding="utf-8")
    command = [*host.compiler(), "-x", "c", "-shared", "-fPIC", "-w", f"-Wl,-soname,{other.name}", str(source)]
    subprocess.run([*command, "-o", str(other)], check=True)
    library = tmp_path / "host.so"
    host.build(library, ("-O0", *host.THREADS), other)
    needed = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True).stdout
    assert other.name in needed
    assert "[libgomp.so.1]" not in needed
    assert not library.with_suffix(".o").exists()


def test_without_one_the_compilers_own_is_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing tells which library torch has: kernels are built all the same, and give the same."""
    x = torch.randn(3, 500)
    expected = OATNode(1.0, 4.0, 16, backend="host")(x)
    monkeypatch.setenv("LAS_SJ_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", str(quick_compiler(tmp_path)))
    monkeypatch.setattr(openmp, "runtime_of_torch", lambda: None)
    host.load.cache_clear()
    try:
        assert torch.equal(OATNode(1.0, 4.0, 16, backend="host")(x), expected)
    finally:
        host.load.cache_clear()
    assert len(list(tmp_path.glob("host-*.so"))) == 1
    assert "building kernels for this processor" in caplog.text
