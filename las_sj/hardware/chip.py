"""Neuromorphic chips: how much a core holds, and what an event costs, each figure with its source."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from las_sj.hardware.chip_file import ChipFile
from las_sj.hardware.costs import EventCosts
from las_sj.hardware.errors import ChipError
from las_sj.hardware.mesh import Mesh

NOT_PUBLISHED = "not published"
DAVIES = "Davies et al. 2018, doi 10.1109/MM.2018.112130359"
NENGO_LOIHI = "nengo-loihi 1.1, block.py (limits of a core)"
SANA_FE = "Boyle et al. 2025, doi 10.1109/TCAD.2025.3537971: loihi.yaml of SANA-FE 2.2.9, calibrated"
LAVA = "Lava 0.10, proc/lif/models.py and proc/dense/process.py"
LOIHI2_BRIEF = "Intel, technology brief of Loihi 2 (2021), as others quote it"
OPEN_NEUROMORPHIC = "open-neuromorphic.org"
SPINNAKER2 = "SpiNNaker2 datasheet 0.03 (2021)"
AKOPYAN = "Akopyan et al. 2015, doi 10.1109/TCAD.2015.2474396"


@dataclass(frozen=True)
class Chip:
    """A chip of equal cores.

    A limit that is None is not published, or does not exist: nothing is held against it. A cost that is None is not
    published, and is never taken for 0.

    Args:
        name: of the chip.
        mesh: where its cores lie.
        costs: of events.
        neurons: of a core.
        synapse_bits: memory of a core for weights, tables and states.
        axons_in, axons_out: sources of messages of a core; pairs of its neurons and the cores that they fire at.
        weight_bits, payload_bits, state_bits: the most of a weight, of what a spike carries (1: nothing besides being
            there), and of a membrane potential.
        has_products: whether spikes can be multiplied by states, as products of two trains need; None: nobody says.
        sources: where limits come from, by the name of the field.
        architecture: file for SANA-FE, or the name of one that it brings; None where there is none with costs.

    Raises:
        ChipError: a limit is below 1.
    """

    name: str
    mesh: Mesh
    costs: EventCosts
    neurons: int | None = None
    synapse_bits: int | None = None
    axons_in: int | None = None
    axons_out: int | None = None
    weight_bits: int | None = None
    payload_bits: int | None = None
    state_bits: int | None = None
    has_products: bool | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    architecture: str | Path | None = None

    def __post_init__(self) -> None:
        for name in LIMITS:
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ChipError(f"{name} of {self.name} must be a whole number of 1 or more, or None, got {value!r}")

    @property
    def cores(self) -> int:
        """How many cores it has."""
        return self.mesh.cores

    @property
    def memory_bits(self) -> int:
        """Of a state, or a number of a table: those of a membrane potential, 24 where nobody says."""
        return self.state_bits or 24

    @classmethod
    def preset(cls, name: str) -> "Chip":
        """One of `CHIPS`.

        Raises:
            ChipError: an unknown name.
        """
        if name not in CHIPS:
            raise ChipError(f"chip must be one of {', '.join(CHIPS)}, or a SANA-FE architecture file, got {name!r}")
        return CHIPS[name]

    @classmethod
    def load(cls, path: Path) -> "Chip":
        """A chip that a SANA-FE architecture file describes: mesh, costs, and the limit on neurons; no other limit.

        Raises:
            ChipFileError: the file cannot be used.
        """
        file = ChipFile.read(path)
        sources = {"mesh": path.name, "neurons": path.name}
        costs = EventCosts.from_sanafe(path)
        return cls(file.name, file.mesh, costs, file.neurons_per_core, sources=sources, architecture=path)

    @classmethod
    def named(cls, name: str) -> "Chip":
        """A preset, or what a file describes.

        Raises:
            ChipError: neither a preset nor a file.
            ChipFileError: the file cannot be used.
        """
        is_file = name not in CHIPS and (Path(name).is_file() or Path(name).suffix in (".yaml", ".yml"))
        return cls.load(Path(name)) if is_file else cls.preset(name)

    def figures(self) -> list[list[str]]:
        """Each limit and cost with its source, for a table."""
        rows = [["cores", f"{self.cores:,}", self.sources.get("mesh", "")]]
        rows += [[_words(name), _shown(getattr(self, name)), self.sources.get(name, "")] for name in LIMITS]
        for each in fields(EventCosts):
            if each.name.endswith(("_pj", "_ns")):
                value = getattr(self.costs, each.name)
                rows.append([_words(each.name), _shown(value), self.costs.source if value is not None else ""])
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON; None is what is not published."""
        limits = {name: getattr(self, name) for name in LIMITS}
        costs = {each.name: getattr(self.costs, each.name) for each in fields(EventCosts)}
        return {"name": self.name, "cores": self.cores, **limits, "costs": costs, "sources": dict(self.sources)}


LIMITS = (
    "neurons",
    "synapse_bits",
    "axons_in",
    "axons_out",
    "weight_bits",
    "payload_bits",
    "state_bits",
)
_UNITS = {"pj": "pJ", "ns": "ns"}


def _words(name: str) -> str:
    head, _, unit = name.rpartition("_")
    return f"{head.replace('_', ' ')}, {_UNITS[unit]}" if unit in _UNITS else name.replace("_", " ")


def _shown(value: float | None) -> str:
    return NOT_PUBLISHED if value is None else f"{value:,.6g}" if isinstance(value, float) else f"{value:,}"


_LOIHI = EventCosts(
    source=SANA_FE,
    synaptic_event_pj=35.5,
    synaptic_event_ns=3.8,
    dendrite_update_pj=0.0,
    dendrite_update_ns=0.0,
    neuron_access_pj=51.2,
    neuron_access_ns=6.0,
    neuron_update_pj=21.6,
    neuron_update_ns=3.7,
    spike_out_pj=69.3,
    spike_out_ns=30.0,
    message_out_pj=111.0,
    message_out_ns=5.1,
    message_in_pj=0.0,
    message_in_ns=16.0,
    hop_east_west_pj=3.0,
    hop_east_west_ns=4.1,
    hop_north_south_pj=4.2,
    hop_north_south_ns=6.5,
    barrier=((1, 0.6e-6), (2, 1.0e-6), (4, 1.4e-6), (29, 1.8e-6)),
)

CHIPS = {
    "loihi": Chip(
        "loihi",
        Mesh(8, 4, 4),
        _LOIHI,
        neurons=1024,
        synapse_bits=1 << 20,
        axons_in=4096,
        axons_out=4096,
        weight_bits=9,
        payload_bits=1,
        has_products=False,
        state_bits=24,
        sources={
            "mesh": f"{DAVIES}; tiles as in SANA-FE's loihi.yaml",
            "weight_bits": f"{DAVIES}, as others quote it",
            "payload_bits": f"{DAVIES}, as others quote it",
            "state_bits": LAVA,
        }
        | dict.fromkeys(("neurons", "synapse_bits", "axons_in", "axons_out"), NENGO_LOIHI),
        architecture="loihi",
    ),
    "loihi2": Chip(
        "loihi2",
        Mesh(8, 4, 4),
        EventCosts("no cost of an event was found"),
        neurons=8192,
        synapse_bits=192 * 1024 * 8,
        weight_bits=8,
        payload_bits=24,
        state_bits=24,
        has_products=True,
        sources={
            "mesh": f"{OPEN_NEUROMORPHIC}: 128 cores; their tiles are taken from Loihi",
            "neurons": LOIHI2_BRIEF,
            "synapse_bits": f"{LOIHI2_BRIEF}; states and tables share it",
        }
        | dict.fromkeys(("weight_bits", "payload_bits", "state_bits"), LAVA),
    ),
    "spinnaker2": Chip(
        "spinnaker2",
        Mesh(38, 1, 4),
        EventCosts("no cost of an event was found"),
        synapse_bits=128 * 1024 * 8,
        weight_bits=8,
        has_products=True,
        sources={
            "mesh": f"{SPINNAKER2}: 152 processors, four to a tile; where tiles lie is not modelled",
            "synapse_bits": f"{SPINNAKER2}: 128 KB, programs among them",
            "weight_bits": "its array of 8-bit MACs; payloads and states are set by programs",
        },
    ),
    "truenorth": Chip(
        "truenorth",
        Mesh(64, 64, 1),
        EventCosts("no cost of an event was found"),
        neurons=256,
        synapse_bits=1 << 16,
        axons_in=256,
        axons_out=256,
        weight_bits=1,
        payload_bits=1,
        has_products=False,
        state_bits=20,
        sources=dict.fromkeys(LIMITS, f"{AKOPYAN}, as others quote it") | dict.fromkeys(("mesh", "neurons"), AKOPYAN),
    ),
}
