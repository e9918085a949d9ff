"""Names of sites on pictures: shortened, grouped by layer, and thinned to the room there is."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from matplotlib.artist import Artist
from matplotlib.axes import Axes

SMALL = 7.0  # font size of ticks and titles of panels, points
NORMAL = 8.5  # of everything else
TALLEST = 26.0  # inches that rows of one picture may take
_SMALLEST_FONT = 6.0  # points
_LINE = 1.2  # height of a line of text over its font size
_POINTS = 72.0  # per inch

Item = TypeVar("Item")


@dataclass(frozen=True)
class LayerSpan:
    """Consecutive sites of one layer: rows first … end − 1."""

    layer: str
    first: int
    end: int

    @property
    def centre(self) -> float:
        """The middle of the layer's rows."""
        return (self.first + self.end) / 2


def thin(items: Sequence[Item], count: int) -> list[Item]:
    """`count` of `items`, evenly spread; all of them if there are no more."""
    if len(items) <= count:
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]


def _split(site: str) -> tuple[list[str], list[str]]:
    """The components that lead to the layer of a site, and those inside it."""
    parts = site.split(".")
    number = next((index for index, part in enumerate(parts) if part.isdecimal()), None)
    end = len(parts) - 1 if number is None else number + 1
    return parts[:end], parts[end:]


def layer_of(site: str) -> str:
    """The layer of a site, "h.3" of "transformer.h.3.attn.c_attn.input_node", or else the module that holds it."""
    outer, _ = _split(site)
    if len(outer) > 1 and not outer[-1].isdecimal():
        outer = outer[1:]  # "transformer" or "bert", which say nothing
    return ".".join(outer[-2:])


def name_in_layer(site: str) -> str:
    """The rest of a site's name, "attn.c_attn.input" in the same example."""
    *modules, node = _split(site)[1] or [site]
    kept = [part for part in modules if part != "las_attention"]  # the core has no name in the original model
    kind = "" if node == "node" and kept else node.removesuffix("_node")
    return ".".join([*kept, kind] if kind else kept)


def layer_spans(sites: Sequence[str]) -> list[LayerSpan]:
    """The layers of `sites`, in their order."""
    spans, first = [], 0
    for _, group in groupby(sites, key=lambda site: _split(site)[0]):
        members = list(group)
        spans.append(LayerSpan(layer_of(members[0]), first, first + len(members)))
        first += len(members)
    return spans


def wrap(name: str, width: int) -> str:
    """A dotted name in lines of at most `width` characters, broken after dots; a longer component stays whole."""
    lines = [""]
    for part in name.split("."):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines[-1] = lines[-1].removesuffix(".")
            lines.append("")
        lines[-1] += f"{part}."
    return "\n".join(lines).removesuffix(".")


def shorten(name: str, width: int) -> str:
    """The end of a name that is longer than `width` characters, after an ellipsis."""
    return name if len(name) <= width else f"…{name[1 - width :]}"


def row_height(rows: int, most: float) -> float:
    """Inches for each of `rows` rows: `most`, or less to keep the picture below TALLEST."""
    return min(most, TALLEST / max(rows, 1))


def label_sites(axis: Axes, sites: Sequence[str], height: float, right: Axes | None = None) -> None:
    """Name the rows of a picture, row i from y = i to i + 1 downwards: sites on the left, layers on the right.

    Rows too thin for text get the names of the layers only, as many as there is room for.

    Args:
        axis: where the rows are.
        sites: one per row.
        height: of a row, inches.
        right: the axis to the right of which the layers stand, `axis` if None.
    """
    axis.set_ylim(len(sites), 0)
    spans = layer_spans(sites)
    centres, layers = [span.centre for span in spans], [span.layer for span in spans]
    if height * _POINTS < _SMALLEST_FONT * _LINE:
        _label(axis, centres, layers, height, SMALL)
        return
    label_rows(axis, [name_in_layer(site) for site in sites], height)
    beside = (right or axis).secondary_yaxis("right")
    beside.set_yticks(centres, layers, fontsize=SMALL)
    beside.tick_params(length=0)


def label_rows(axis: Axes, names: Sequence[str], height: float) -> None:
    """Name the rows of a picture, row i from y = i to i + 1 downwards; as many as there is room for."""
    axis.set_ylim(len(names), 0)
    font = min(max(height * _POINTS / _LINE, _SMALLEST_FONT), SMALL)
    _label(axis, [row + 0.5 for row in range(len(names))], names, height, font)


def _label(axis: Axes, positions: Sequence[float], names: Sequence[str], height: float, font: float) -> None:
    """Ticks at those of `positions` (in rows) that leave room for a line of text between them."""
    apart = font * _LINE / (height * _POINTS)
    kept: list[int] = []
    for index, position in enumerate(positions):
        if not kept or position - positions[kept[-1]] >= apart - 1e-6:
            kept.append(index)
    axis.set_yticks([positions[index] for index in kept], [names[index] for index in kept], fontsize=font)
    axis.tick_params(axis="y", length=2)


def legend_above(axis: Axes, handles: Sequence[Artist], columns: int = 4, title: str | None = None) -> None:
    """A legend between an axis and the title of the figure."""
    axis.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, 1),
        ncols=columns,
        frameon=False,
        fontsize=NORMAL,
        title=title,
        title_fontsize=NORMAL,
    )
