"""Lengths of the functions and classes of las_sj, in lines, docstrings included: median, 90th percentile, longest.

python benchmarks/code.py [--longest 5]
"""

import argparse
import ast
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("las_sj", "neurons", "models", "analysis")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Definition(NamedTuple):
    """A function or class, where it stands, and its lines without decorators."""

    lines: int
    place: str
    is_class: bool


def definitions(root: Path = ROOT) -> Iterator[Definition]:
    """All functions, methods and classes."""
    for path in sorted((*root.glob("las_sj*.py"), *(p for folder in FOLDERS for p in (root / folder).rglob("*.py")))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
                lines = (node.end_lineno or 0) - node.lineno + 1
                yield Definition(lines, f"{path.relative_to(root)}:{node.name}", isinstance(node, ast.ClassDef))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="of another checkout")
    parser.add_argument("--longest", type=int, default=5, metavar="N", help="how many to list (5)")
    arguments = parser.parse_args()
    found = sorted(definitions(arguments.root), reverse=True)
    for title, wanted in (("functions", False), ("classes", True)):
        chosen = [definition for definition in found if definition.is_class is wanted]
        lengths = [definition.lines for definition in chosen]
        ninth = statistics.quantiles(lengths, n=10)[-1]
        print(f"{len(chosen)} {title}: median {statistics.median(lengths):g}, 90th percentile {ninth:g}, longest")
        for definition in chosen[: arguments.longest]:
            print(f"  {definition.lines:4d}  {definition.place}")


if __name__ == "__main__":
    main()
