"""The folders import each other one way: analysis → models → neurons, and las_sj stands on all three."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("neurons", "models", "analysis", "las_sj")  # the first three are packages of las_sj
MAY_IMPORT = {
    "neurons": {"neurons"},
    "models": {"neurons", "models"},
    "analysis": {"neurons", "models", "analysis"},
}


def imported(source: str) -> Iterator[str]:
    """The parts of las_sj that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            module = node.module or ""
            names = [f"las_sj.{alias.name}" for alias in node.names] if module == "las_sj" else [module]
        for name in names:
            if name.split(".")[0] == "las_sj":
                yield name.removeprefix("las_sj").removeprefix(".").split(".")[0]


@pytest.mark.parametrize("folder", list(MAY_IMPORT))
def test_folders_import_one_way(folder: str) -> None:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths
    wrong = {
        f"{path.relative_to(ROOT)}: {name or 'las_sj'}"
        for path in paths
        for name in imported(path.read_text(encoding="utf-8"))
        if name not in MAY_IMPORT[folder]
    }
    assert wrong == set()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import las_sj", ""),
        ("import las_sj.analysis.labels", "analysis"),
        ("from las_sj import models", "models"),
        ("def f():\n    from las_sj.neurons.code import emit_steps", "neurons"),
    ],
)
def test_imports_are_seen(source: str, name: str) -> None:
    assert list(imported(source)) == [name]


def modules() -> dict[str, Path]:
    """The files of las_sj by the name that they are imported by."""
    found = {}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts if folder == "las_sj" else ("las_sj", *parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def needs(source: str, known: set[str]) -> set[str]:
    """The modules of las_sj that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in names}
    return found & known


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Modules that need each other, directly or by way of others."""
    reach = {name: set(needed) for name, needed in graph.items()}
    changed = True
    while changed:
        changed = False
        for found in reach.values():
            more = set().union(*(reach[name] for name in found)) - found
            changed |= bool(more)
            found |= more
    return [{other for other in found if name in reach[other]} for name, found in reach.items() if name in found]


def test_nothing_imports_the_command() -> None:
    """las_sj_cli stands on las_sj."""
    sources = [path.read_text(encoding="utf-8") for path in modules().values()]
    assert not any(re.search(r"^\s*(import|from) las_sj_cli", source, re.MULTILINE) for source in sources)


def test_no_import_circles() -> None:
    known = modules()
    assert len(known) > 150
    graph = {name: needs(path.read_text(encoding="utf-8"), set(known)) for name, path in known.items()}
    assert circles(graph) == []


def test_circles_are_seen() -> None:
    graph = {
        "las_sj.a": needs("def f():\n    from las_sj import b", {"las_sj.a", "las_sj.b"}),
        "las_sj.b": needs("import las_sj.a", {"las_sj.a", "las_sj.b"}),
        "las_sj.c": needs("from las_sj.a import x", {"las_sj.a", "las_sj.b"}),
    }
    assert circles(graph) == [{"las_sj.a", "las_sj.b"}] * 2
