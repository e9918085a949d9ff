"""What each event on a chip costs."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from las_sj.hardware.chip_file import ChipFile, ChipFileError


@dataclass(frozen=True)
class EventCosts:
    """Energy in pJ and time in ns of each event; None where it is not published, which is never taken for 0.

    Attributes:
        source: where the figures come from.
        synaptic_event_pj, synaptic_event_ns: of a spike at one synapse.
        dendrite_update_pj, dendrite_update_ns: of adding one synaptic event to its neuron's input.
        neuron_access_pj, neuron_access_ns: of a neuron in each step.
        neuron_update_pj, neuron_update_ns: beside that, of a neuron which got a message in the step before.
        spike_out_pj, spike_out_ns: of a soma which fires. Replays leave it out: their sources are trains, not somas.
        message_out_pj, message_out_ns: of a core which sends a spike to one core.
        message_in_pj, message_in_ns: of the core which receives it.
        hop_east_west_pj, hop_east_west_ns, hop_north_south_pj, hop_north_south_ns: of a message from tile to tile.
        barrier: seconds in which tiles agree that a step is over, as pairs (from so many tiles on, seconds), ascending.
    """

    source: str
    synaptic_event_pj: float | None = None
    synaptic_event_ns: float | None = None
    dendrite_update_pj: float | None = None
    dendrite_update_ns: float | None = None
    neuron_access_pj: float | None = None
    neuron_access_ns: float | None = None
    neuron_update_pj: float | None = None
    neuron_update_ns: float | None = None
    spike_out_pj: float | None = None
    spike_out_ns: float | None = None
    message_out_pj: float | None = None
    message_out_ns: float | None = None
    message_in_pj: float | None = None
    message_in_ns: float | None = None
    hop_east_west_pj: float | None = None
    hop_east_west_ns: float | None = None
    hop_north_south_pj: float | None = None
    hop_north_south_ns: float | None = None
    barrier: tuple[tuple[int, float], ...] | None = None

    @classmethod
    def from_sanafe(cls, path: Path) -> "EventCosts":
        """The costs in a SANA-FE architecture file: of its first axons, synapse, dendrite and soma.

        A file that gives 0 for every energy has none published, and likewise for every time.

        Raises:
            ChipFileError: the file cannot be used.
        """
        file = ChipFile.read(path)
        values: dict[str, Any] = {}
        for unit, prefix, key in _KEYS:
            attributes = file.tile if unit == "tile" else file.units[unit]
            values[f"{prefix}_pj"] = _number(file, attributes, f"energy_{key}", 1e12)
            values[f"{prefix}_ns"] = _number(file, attributes, f"latency_{key}", 1e9)
        for east, west in (("east", "west"), ("north", "south")):
            for what in ("energy", "latency"):
                if file.tile.get(f"{what}_{east}_hop") != file.tile.get(f"{what}_{west}_hop"):
                    raise ChipFileError(f"{path}: a hop {east} and one {west} must have the same {what}")
        for unit in ("_pj", "_ns"):
            named = [name for name in values if name.endswith(unit)]
            if not any(values[name] for name in named):
                values.update(dict.fromkeys(named))
        # A barrier of 0 beside times that nobody published is not a figure either.
        barrier = None if values["message_in_ns"] is None else file.barrier
        return cls(f"{file.name}, {path.name}", **values, barrier=barrier)

    def barrier_seconds(self, tiles: int) -> float | None:
        """How long the barrier of so many tiles takes; None where no time is published."""
        if self.barrier is None:
            return None
        reached = [seconds for least, seconds in self.barrier if least <= tiles]
        return reached[-1] if reached else self.barrier[0][1]

    def missing(self, unit: str) -> list[str]:
        """Names of the costs with an ending, "_pj" or "_ns", that are not published."""
        return [field.name for field in fields(self) if field.name.endswith(unit) and getattr(self, field.name) is None]


# part of the file, name here, name there
_KEYS = (
    ("synapse", "synaptic_event", "process_spike"),
    ("dendrite", "dendrite_update", "update"),
    ("soma", "neuron_access", "access_neuron"),
    ("soma", "neuron_update", "update_neuron"),
    ("soma", "spike_out", "spike_out"),
    ("axon_out", "message_out", "message_out"),
    ("axon_in", "message_in", "message_in"),
    ("tile", "hop_east_west", "east_hop"),
    ("tile", "hop_north_south", "north_hop"),
)


def _number(file: ChipFile, attributes: Mapping[str, float], key: str, scale: float) -> float:
    try:
        return float(f"{attributes[key] * scale:.12g}")  # 21.6, not 21.599999999999998
    except KeyError:
        raise ChipFileError(f"{file.path}: {key} is missing") from None
