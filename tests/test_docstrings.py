"""A stranger reads one docstring at a time: every public name has one, which names its own subject."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("las_sj", "neurons", "models", "analysis")
# Docstrings that begin so lean on their neighbour: "The same at step T."
LEANING = re.compile(
    r"(the same|same as|both|likewise|as above|of the same|the other|ditto|its|it|they|them|this|that)\b", re.I
)
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def public(tree: ast.Module) -> Iterator[tuple[str, Documented]]:
    """The module, and its public functions, classes and methods."""
    yield "module", tree
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node
            for method in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_") and not overrides(method):
                    yield f"{node.name}.{method.name}", method


def overrides(method: ast.FunctionDef) -> bool:
    """Whether a method's meaning is fixed elsewhere: by torch, transformers, SpikingJelly, or a layer's contract."""
    setters = any(isinstance(mark, ast.Attribute) and mark.attr == "setter" for mark in method.decorator_list)
    return setters or method.name in {"forward", "backward", "equip", "sites", "configure", "extra_repr", "error"}


def subjects() -> Iterator[tuple[str, str | None]]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            if source.strip():
                for name, node in public(ast.parse(source)):
                    yield f"{path.relative_to(ROOT)}: {name}", ast.get_docstring(node)


def test_public_names_have_docstrings() -> None:
    assert [name for name, text in subjects() if not text] == []


def test_docstrings_name_their_own_subject() -> None:
    leaning = [f"{name}: {text.splitlines()[0]}" for name, text in subjects() if text and LEANING.match(text)]
    assert leaning == []


def words_of(text: str) -> Iterator[str]:
    """The sentences of a docstring's prose: without code, sections of arguments, tables and lists."""
    prose = re.split(r"\n\s*(?:Args|Returns|Raises|Attributes|Yields):\n", text)[0]
    paragraphs = [p for p in re.split(r"\n\s*\n", prose) if not re.search(r"^\s{4,}\S", p, re.MULTILINE)]
    for paragraph in paragraphs:
        yield from re.split(r"(?<=[.;:?!])\s", " ".join(paragraph.split()))


@pytest.mark.parametrize("longest", [30])
def test_sentences_are_short(longest: int) -> None:
    long = [
        f"{name}: {len(sentence.split())} words: {sentence}"
        for name, text in subjects()
        for sentence in words_of(text or "")
        if len(sentence.split()) > longest
    ]
    assert long == []
