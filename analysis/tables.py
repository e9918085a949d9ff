"""Tables for people: cells, and Markdown."""

from collections.abc import Sequence

Cell = str | float
Table = tuple[list[str], list[list[Cell]]]


def format_cell(value: Cell) -> str:
    """A number as people read it."""
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return lines + ["| " + " | ".join(format_cell(cell) for cell in row) + " |" for row in rows]
