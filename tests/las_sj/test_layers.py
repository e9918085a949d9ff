"""Imports within las_sj run one way: from what commands do down to what data are."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "las_sj"
LAYERS = {
    "data": 0,
    "checkpoint": 1,
    "conversion": 2,
    "evaluation": 3,
    "hardware": 3,
    "reports": 3,
    "optimisation": 3,
    "training": 4,
    "commands": 5,
}
MODULES = {
    ".".join(("las_sj", *path.relative_to(FOLDER).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in FOLDER.rglob("*.py")
}


def imported_by(module: str) -> set[str]:
    """Modules of las_sj that one imports, within functions too."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & set(MODULES)) or {node.module}
    return found & set(MODULES)


def layer_of(module: str) -> int | None:
    return LAYERS.get(module.split(".")[1]) if "." in module else None


@pytest.mark.parametrize("module", sorted(name for name in MODULES if layer_of(name) is not None))
def test_downwards(module: str) -> None:
    imported = imported_by(module)
    assert "las_sj" not in imported, "the package imports its parts, not they the package"
    own, folder = layer_of(module), module.split(".")[1]
    for other in imported:
        layer = layer_of(other)
        assert layer is None or layer < own or other.split(".")[1] == folder, f"{module} imports {other}"


def test_no_circles() -> None:
    graph = {module: imported_by(module) - {module} for module in MODULES}
    TopologicalSorter(graph).prepare()  # raises a CycleError
