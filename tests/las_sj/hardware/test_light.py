"""What counts and places needs no network, and the engine stays out of the user's process."""

import ast
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "las_sj" / "hardware"
WITHOUT_TORCH = [
    "architecture",
    "chip_file",
    "closed_form",
    "connection",
    "core_loads",
    "costs",
    "mesh",
    "replay",
    "replay_job",
    "replay_process",
]


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).split(".")[0])
    return found


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_no_torch(name: str) -> None:
    assert not imported(FOLDER / f"{name}.py") & {"torch", "transformers"}


def test_one_file_imports_the_engine() -> None:
    importing = [path.stem for path in FOLDER.rglob("*.py") if imported(path) & {"sanafe", "sanafecpp"}]
    assert importing == ["replay_process"]


def test_the_process_imports_nothing_of_this_package() -> None:
    assert "las_sj" not in imported(FOLDER / "replay_process.py")
