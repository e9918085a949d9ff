"""What `las-sj deploy` found out about a model, for its report."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from las_sj.analysis import plot_cores, plot_steps
from las_sj.analysis.tables import Table
from las_sj.data.output_folder import HARDWARE, MADE_BY_DEPLOY

LAYER_COLUMNS = ["layer or population", "size", "cores", "limit that binds", "messages per token"]


@dataclass(frozen=True)
class HardwareSection:
    """Tables and pictures of a deployment.

    Attributes:
        chip: its name.
        summary: rows of what is asked first.
        layers: rows of layers and populations.
        weights: for each layer of weights, its block, the limit that binds and how many cores it has.
        messages, seconds: of the first steps.
        time_steps: T.
    """

    chip: str
    summary: list[list[str]]
    layers: list[list[str | float]]
    weights: list[tuple[str, str, int]]
    messages: list[int]
    seconds: list[float]
    time_steps: int

    def tables(self) -> list[tuple[str, Table]]:
        """Titles and tables."""
        return [
            (f"On {self.chip}", (["", "value"], [[*row] for row in self.summary])),
            (f"On {self.chip}: layers and populations", (LAYER_COLUMNS, [[*row] for row in self.layers])),
        ]

    def pictures(self) -> list[tuple[str, Callable[[], Figure]]]:
        """Captions, and what draws each."""
        found: list[tuple[str, Callable[[], Figure]]] = []
        if self.weights:
            found.append((f"Cores of {self.chip} by block", lambda: plot_cores(self.weights)))
        if self.messages:
            found.append((f"Traffic on {self.chip}", lambda: plot_steps(self.messages, self.seconds, self.time_steps)))
        return found


def read_hardware(folder: Path) -> HardwareSection | None:
    """The section of a folder in which `las-sj deploy` wrote; None where it did not, or the file was changed."""
    try:
        found = json.loads((folder / HARDWARE[1]).read_text(encoding="utf-8"))
        if found["made_by"] != MADE_BY_DEPLOY:
            return None
        layers = [[str(row[0]), str(row[1]), int(row[2]), str(row[3]), _number(row[4])] for row in found["layers"]]
        section = HardwareSection(
            str(found["chip"]["name"]),
            [[str(name), str(value)] for name, value in found["summary"]],
            layers,
            [(_block(str(name)), str(limit), int(cores)) for name, limit, cores in found["weights"]],
            [int(count) for count in found["steps"]["messages"]],
            [float(value) for value in found["steps"]["seconds"]],
            max(1, int(found["time_steps"])),
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError):
        return None
    return section if _is_sound(section) else None


def _is_sound(section: HardwareSection) -> bool:
    """Whether a section can be drawn: no negative numbers, and as many times as steps, or none."""
    cores = [count for _, _, count in section.weights]
    numbers = [*cores, *section.messages, *section.seconds]
    return all(0 <= value < math.inf for value in numbers) and len(section.seconds) in (0, len(section.messages))


def _number(value: object) -> str | float:
    return float(value) if isinstance(value, int | float) else str(value)


def _block(name: str) -> str:
    """A layer's name up to the last number, or its first part."""
    parts = name.split(".")
    numbers = [index for index, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbers[-1] + 1] if numbers else parts[:1])
