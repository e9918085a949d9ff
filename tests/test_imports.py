"""The folders import each other one way: analysis → models → neurons, and las_sj stands on all three."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "neurons": {"neurons"},
    "models": {"neurons", "models"},
    "analysis": {"neurons", "models", "analysis", "extras"},  # extras imports nothing of las_sj
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


def test_extras_imports_nothing() -> None:
    assert list(imported((ROOT / "las_sj" / "extras.py").read_text(encoding="utf-8"))) == []


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
