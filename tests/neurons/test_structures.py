"""The structures of C++ against their mirrors for ctypes: compilers are asked where each field lies."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from las_sj.neurons import counts
from las_sj.neurons.kernels import host, structures

OF_A_TYPE = ("Thresholds", "Gates", "Norm", "Softmax")  # with tables, which are float or double
OTHERS = ("Code", "Currents", "Counts", "Mask")
ON_A_GPU = {  # names of C++ that have no comma
    "CoderOf1": ("Coder<float>", "Coder"),
    "CoderOf2": ("Coder<double>", "WideCoder"),
    "CurveOf1": ("Curve", "Curve"),
    "NormOf1": ("NormLayer<float>", "NormLaunch"),
    "NormOfHalf": ("NormLayer<BFloat>", "NormLaunch"),
    "NormOf2": ("NormLayer<double>", "WideNormLaunch"),
    "SoftmaxOf1": ("SoftmaxLayer<float>", "SoftmaxLaunch"),
    "SoftmaxOf2": ("SoftmaxLayer<double>", "WideSoftmaxLaunch"),
    "GatedOf1": ("GatedLayer<float>", "GatedLaunch"),
    "GatedOf2": ("GatedLayer<double>", "WideGatedLaunch"),
}
AFTER_NEURONS = {
    "PlainOf1": ("PlainWindow<Thresholds<float>, float>", "Thresholds", "PlainLaunch"),
    "PlainOf2": ("PlainWindow<Gates<double>, double>", "Gates", "PlainLaunch"),
    "WindowOf1": ("Window<Coder<float>, float>", "Coder", "WindowLaunch"),
    "WindowOfHalf": ("Window<Curve, Half>", "Curve", "WindowLaunch"),
    "LookUpOfHalf": ("LookUp<Coder<float>, Half>", "Coder", "LookUpLaunch"),
}
KINDS = """
#include <cstddef>
#include <type_traits>
#include "cuda_structures.h"

enum Kind { NUMBER, REAL, POINTER, STRUCTURE };
template <class Field> constexpr Kind kind_of() {
    if (std::is_pointer<Field>::value) return POINTER;
    if (std::is_floating_point<Field>::value) return REAL;
    return std::is_signed<Field>::value ? NUMBER : STRUCTURE;
}
"""


def needs(command: str) -> pytest.MarkDecorator:
    """Skip where there is no such compiler."""
    found = host.load() is not None if command == "c++" else shutil.which(command) is not None
    return pytest.mark.skipif(not found, reason=f"no {command}")


COMPILERS = [pytest.param(command, marks=needs(command)) for command in ("c++", "nvcc")]


def kind_of(field: type) -> str:
    """As `Kind` above."""
    if field is ctypes.c_void_p or issubclass(field, ctypes._Pointer):
        return "POINTER"
    if field in (ctypes.c_double, ctypes.c_float):
        return "REAL"
    return "NUMBER" if field in (ctypes.c_int32, ctypes.c_int64) else "STRUCTURE"


def claims(mirror: type[ctypes.Structure], name: str) -> str:
    """What ctypes says of a structure, as C++ that compiles only if it is so."""
    lines = [f'static_assert(sizeof({name}) == {ctypes.sizeof(mirror)}, "{name}: size");']
    for field, kind, *_ in mirror._fields_:
        place, member = getattr(mirror, field), f"decltype({name}::{field})"
        lines += [
            f'static_assert(offsetof({name}, {field}) == {place.offset}, "{name}::{field}: place");',
            f'static_assert(sizeof({member}) == {place.size}, "{name}::{field}: size");',
            f'static_assert(kind_of<{member}>() == {kind_of(kind)}, "{name}::{field}: kind");',
        ]
    names = ", ".join(field for field, *_ in mirror._fields_)  # as many as there are fields, or it does not compile
    counted = f"inline void all_of(const {name} &structure) {{ const auto &[{names}] = structure; }}"
    return "\n".join((*lines, counted))


def compile_claims(command: str, source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Without warnings: of names that are not used there is one each."""
    path = folder / "claims.cu"
    aliases = [f"using {name} = {kind};" for name, (kind, *_) in (ON_A_GPU | AFTER_NEURONS).items()]
    path.write_text("\n".join([KINDS, "namespace las::gpu {", *aliases, "}", source]), encoding="utf-8")
    cpp = [*host.compiler(), "-x", "c++", "-fsyntax-only"]
    start = cpp if command == "c++" else ["nvcc", "-ptx", "-o", str(folder / "claims.ptx")]
    arguments = [*start, "-w", "-std=c++17", f"-I{host.SOURCES}", str(path)]
    return subprocess.run(arguments, capture_output=True, text=True)


def named_structures() -> dict[str, type[ctypes.Structure]]:
    """Each structure in C++ and its mirror."""
    typed = {f"las::{name}<{real}>": getattr(structures, name) for name in OF_A_TYPE for real in ("float", "double")}
    on_a_gpu = {f"las::gpu::{name}": getattr(structures, mirror) for name, (_, mirror) in ON_A_GPU.items()}
    launches = {f"las::gpu::{name}": after_neurons(*mirrors) for name, (_, *mirrors) in AFTER_NEURONS.items()}
    return typed | {f"las::{name}": getattr(structures, name) for name in OTHERS} | on_a_gpu | launches


def after_neurons(neurons: str, launch: str) -> type[ctypes.Structure]:
    """A mirror of neurons and what a launch has after them, as `bytes_of` puts them side by side."""
    fields = [("neurons", getattr(structures, neurons)), *getattr(structures, launch)._fields_]
    return type("Both", (ctypes.Structure,), {"_fields_": fields})


def test_each_structure_is_looked_at() -> None:
    mirrors = {
        name
        for name, mirror in vars(structures).items()
        if isinstance(mirror, type) and issubclass(mirror, ctypes.Structure) and mirror is not ctypes.Structure
    }
    on_a_gpu = {mirror for _, *names in (*ON_A_GPU.values(), *AFTER_NEURONS.values()) for mirror in names}
    assert mirrors == {*OF_A_TYPE, *OTHERS, *on_a_gpu}


@pytest.mark.parametrize("command", COMPILERS)
def test_every_field_lies_where_ctypes_puts_it(command: str, tmp_path: Path) -> None:
    source = "\n".join(claims(mirror, name) for name, mirror in named_structures().items())
    result = compile_claims(command, source, tmp_path)
    assert result.returncode == 0, result.stderr


def edited(mirror: type[ctypes.Structure], change: str) -> type[ctypes.Structure]:
    """A mirror that was edited, where its structure was not."""
    fields = [*mirror._fields_]
    if change == "moved":
        fields[0], fields[1] = fields[1], fields[0]
    elif change == "missing":
        del fields[-2:]  # one alone may leave room at the end as it was
    else:
        fields[0] = (fields[0][0], ctypes.c_double)
    return type("Edited", (ctypes.Structure,), {"_fields_": fields})


@needs("c++")
@pytest.mark.parametrize(("change", "what"), [("moved", "place"), ("missing", "size"), ("of another type", "kind")])
def test_a_field_that_differs_is_noticed(change: str, what: str, tmp_path: Path) -> None:
    mirrors = named_structures()
    source = "\n".join(claims(edited(mirror, change), name) for name, mirror in mirrors.items())
    result = compile_claims("c++", source, tmp_path)
    assert result.returncode != 0
    for name, mirror in mirrors.items():
        field = "" if change == "missing" else f"::{mirror._fields_[0][0]}"
        assert f": {name}{field}: {what}" in result.stderr


@needs("c++")
def test_a_field_that_only_cpp_has_is_noticed(tmp_path: Path) -> None:
    """Even where it lies in what would be padding without it, so that no other one moves."""
    fields = [field for field in structures.Gates._fields_ if field[0] != "time_steps"]
    mirror = type("Edited", (ctypes.Structure,), {"_fields_": fields})
    assert ctypes.sizeof(mirror) == ctypes.sizeof(structures.Gates)
    result = compile_claims("c++", claims(mirror, "las::Gates<float>"), tmp_path)
    assert result.returncode != 0
    assert f"{len(fields)} names" in result.stderr
    assert "static assertion failed" not in result.stderr


@needs("c++")
def test_constants(tmp_path: Path) -> None:
    """Numbers that Python and C++ both name."""
    pairs = {"OUTLIER_FLAG": counts.OUTLIER_FLAG} | {
        name: getattr(structures, name) for name in ("HELD", "FLAT", "SLOPED")
    }
    source = "\n".join(f'static_assert(las::{name} == {value}, "{name}");' for name, value in pairs.items())
    result = compile_claims("c++", source, tmp_path)
    assert result.returncode == 0, result.stderr
