"""Architecture files of SANA-FE."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from las_sj.extras import require_extra
from las_sj.hardware.mesh import Mesh

KINDS = ("axon_in", "synapse", "dendrite", "soma", "axon_out")
MOST = 1 << 20  # tiles, cores of one, neurons of a core: what is larger is a slip, and would take all memory
LARGEST_COST = 1.0  # J or s of an event
LONGEST_NAME = 80
_RANGE = re.compile(r"\[(\d+)\.\.(\d+)\]$")


class ChipFileError(ValueError):
    """A SANA-FE architecture file cannot be used; the message says why."""


def installed_chip(name: str = "loihi") -> Path:
    """The architecture file of a chip that SANA-FE brings; nothing of SANA-FE is imported.

    Raises:
        MissingExtraError: SANA-FE is not installed.
        ChipFileError: it brings no chip of that name.
    """
    require_extra("hardware", "sanafe")
    spec = find_spec("sanafe")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder) / "examples" / f"{name}.yaml"
        if path.is_file():
            return path
    raise ChipFileError(f"SANA-FE brings no {name}.yaml: name a file of your own")


@dataclass(frozen=True)
class ChipFile:
    """A chip of equal tiles with equal cores, as a SANA-FE architecture file describes it.

    Attributes:
        path: of the file.
        name: of the chip.
        mesh: where its cores lie.
        link_buffer_size: messages that a link holds.
        neurons_per_core: the limit on the neurons of a core.
        barrier: seconds at the end of a step, as pairs (from so many tiles on, seconds), ascending.
        tile: energies and latencies of hops.
        units: energies and latencies of a core's first axons, synapse, dendrite and soma, by the kind of the unit.
    """

    path: Path
    name: str
    mesh: Mesh
    link_buffer_size: int
    neurons_per_core: int
    barrier: tuple[tuple[int, float], ...]
    tile: Mapping[str, float]
    units: Mapping[str, Mapping[str, float]]

    @classmethod
    def read(cls, path: Path) -> "ChipFile":
        """Read a file.

        Raises:
            ChipFileError: there is none, it is not YAML, something is missing, or its tiles or cores differ.
        """
        try:
            return _read(path)
        except ChipFileError:
            raise
        except KeyError as error:
            raise ChipFileError(f"{path} does not describe a chip: {error.args[0]} is missing") from None
        except (TypeError, AttributeError, RecursionError):
            raise ChipFileError(f"{path} does not describe a chip: a part of it has another form") from None
        except (ValueError, OverflowError) as error:
            raise ChipFileError(f"{path} does not describe a chip: {error}") from None


def _read(path: Path) -> ChipFile:
    described = _parsed(path)
    if not isinstance(described, dict):
        raise ChipFileError(f"{path} describes no architecture: give an architecture file of SANA-FE")
    chip = described["architecture"]
    noc, tile = chip["attributes"], _only(path, "tile", chip["tile"])
    core = _only(path, "core", tile["core"])
    attributes = core["attributes"]
    if attributes["buffer_position"] != "soma" or attributes.get("buffer_inside_unit", False):
        raise ChipFileError(f"{path}: replays need cores with buffer_position soma and buffer_inside_unit false")
    width, height = (_whole(key, noc[key]) for key in ("width", "height"))
    if _times(tile["name"]) != width * height:
        raise ChipFileError(f"{path}: {width} × {height} tiles, but {_times(tile['name'])} are described")
    return ChipFile(
        path,
        _name(chip["name"]),
        _mesh(width, height, _times(core["name"])),
        _whole("link_buffer_size", noc["link_buffer_size"]),
        _whole("max_neurons_supported", attributes.get("max_neurons_supported", 1024)),
        _barrier(noc),
        _costs(tile["attributes"]),
        {kind: _first(kind, core[kind]) for kind in KINDS},
    )


def _parsed(path: Path) -> Any:
    import yaml  # transformers needs it, so it is there; only those who simulate pay for it

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ChipFileError(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError):
        raise ChipFileError(f"{path} is not YAML: give an architecture file of SANA-FE") from None


def _only(path: Path, kind: str, described: Any) -> Any:
    entries = described if isinstance(described, list) else [described]
    if len(entries) != 1:
        raise ChipFileError(f"{path} describes {len(entries)} kinds of {kind}: replays need equal ones")
    return entries[0]


def _whole(key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST:
        raise ValueError(f"{key} must be a whole number from 1 to {MOST}, got {value!r:.60}")
    return value


def _mesh(width: int, height: int, cores_per_tile: int) -> Mesh:
    _whole("the number of cores", width * height * cores_per_tile)
    return Mesh(width, height, cores_per_tile)


def _name(value: Any) -> str:
    """A name in one line."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"name must be text, got {value!r:.60}")
    return "".join(each for each in " ".join(value.split()) if each.isprintable())[:LONGEST_NAME]


def _cost(key: str, value: Any) -> float:
    if isinstance(value, bool) or not 0 <= float(value) <= LARGEST_COST:
        raise ValueError(f"{key} must be from 0 to {LARGEST_COST:g}, got {value!r:.60}")
    return float(value)


def _times(name: str) -> int:
    found = _RANGE.search(name)
    return _whole(f"the number of {name[:60]}", int(found[2]) - int(found[1]) + 1) if found else 1


def _first(kind: str, units: Any) -> Mapping[str, float]:
    """Costs of the first unit of a kind; of somas, of the first that is not an input."""
    listed = units if isinstance(units, list) else [units]
    for unit in listed:
        if unit["attributes"].get("model") != "input":
            return _costs(unit["attributes"])
    raise KeyError(kind)


def _costs(attributes: Mapping[str, Any]) -> Mapping[str, float]:
    return {key: _cost(key, value) for key, value in attributes.items() if key.startswith(("energy_", "latency_"))}


def _barrier(noc: Mapping[str, Any]) -> tuple[tuple[int, float], ...]:
    seconds = noc.get("latency_sync", 0.0)
    if isinstance(seconds, list):
        seconds = dict(enumerate(seconds))
    listed = seconds if isinstance(seconds, Mapping) else {0: seconds}
    if not listed or any(int(least) < 0 for least in listed):
        raise ValueError(f"latency_sync must hold times by numbers of tiles, got {seconds!r:.60}")
    return tuple(sorted((int(least), _cost("latency_sync", value)) for least, value in listed.items()))
