"""Rows of finished entries, one line of JSON each; they hold for one version of transformers and of the project."""

import dataclasses
import json
import os
from collections.abc import Collection, Iterator
from hashlib import sha256
from pathlib import Path

import torch
import transformers

from every_type.judging import CONVERTED, Row
from every_type.mappings import Entry

ROOT = Path(__file__).resolve().parents[2]
EARLIER = "earlier"  # mark of rows of an earlier state of the project
_SOURCES = ("las_sj", "models", "neurons", "analysis", "benchmarks/every_type")


def versions() -> Row:
    """What a row depends on: the versions of torch and transformers, and a digest of the project's files."""
    found = sha256()
    for folder in _SOURCES:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".h", ".cpp"):
                found.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "project": found.hexdigest()[:16],
    }


class Journal:
    """A file of finished entries, to which rows are added.

    Args:
        path: of the file; it may not exist yet.
        stages: that are asked for; entries that lack one of them in all of their rows count as unfinished.
        earlier: whether types that converted with an earlier state of the project count as finished.
    """

    def __init__(self, path: Path, stages: Collection[str], earlier: bool = False) -> None:
        self.path, self._earlier = path, earlier
        self._versions = versions()
        self._stages = sorted(stages)

    def finished(self) -> dict[Entry, Row]:
        """Entries of these versions with their rows, one of the stages of all; those of earlier ones are marked
        `EARLIER`."""
        rows: dict[Entry, Row] = {}
        for line in self._lines():
            try:
                row = json.loads(line)
                entry = Entry(**row.pop("entry"))
            except (ValueError, TypeError, KeyError):  # a line that was cut off
                continue
            if self._counts(row):
                rows[entry] = _joined(rows[entry], row) if entry in rows else row
        return {entry: row for entry, row in rows.items() if set(self._stages) <= set(row["stages"])}

    def _counts(self, row: Row) -> bool:
        """Whether a row holds, perhaps as an earlier one."""
        others = {name for name, value in self._versions.items() if row.get(name) != value}
        if not others:
            return True
        row[EARLIER] = True
        return self._earlier and others == {"project"} and row.get("status") == CONVERTED

    def add(self, entry: Entry, row: Row) -> None:
        """Write a row through to the disk."""
        whole = {"entry": dataclasses.asdict(entry), **row, "stages": self._stages, **self._versions}
        with self.path.open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")  # what a killed run left of its last line stays unread
            file.write(f"{json.dumps(whole)}\n".encode())
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> Iterator[str]:
        if self.path.exists():
            yield from self.path.read_text(encoding="utf-8", errors="replace").splitlines()


def _joined(first: Row, second: Row) -> Row:
    """The later of two rows of an entry, with the stages that only the other one has, if both converted."""
    is_late = EARLIER in second and EARLIER not in first  # it stands later in the file, and is of an earlier state
    older, newer = (second, first) if is_late else (first, second)
    beside = set(older["stages"]) - set(newer["stages"])
    if not beside or {older["status"], newer["status"]} != {CONVERTED}:
        return newer
    cells = {name: older[name] for name in (*beside, EARLIER) if name in older}
    return newer | cells | {"stages": sorted({*older["stages"], *newer["stages"]})}
