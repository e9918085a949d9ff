"""What tests of pictures share."""

from itertools import combinations
from typing import Any
from unittest.mock import patch

from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text


def drawn_texts(figure: Figure) -> list[tuple[str, Any]]:
    """Each text that is drawn, with its box."""
    texts: list[tuple[str, Any]] = []

    def draw(text: Text, renderer: Any) -> None:
        if text.get_visible() and text.get_text().strip():
            texts.append((text.get_text(), text.get_window_extent(renderer)))

    with patch.object(Text, "draw", draw), patch.object(Annotation, "draw", draw):
        figure.draw_without_rendering()
    return texts


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of drawn texts that overlap."""
    pairs = combinations(drawn_texts(figure), 2)
    return [(first, second) for (first, box), (second, other) in pairs if box.overlaps(other)]
