"""What an evaluation has finished, batch by batch, so that it goes on where it was cut off.

    journal = Journal(folder, fingerprint)
    records = journal.collect("SST-2", "fp32, 872 rows", len(batches), lambda index: {"logits": ...})

A record is a line of JSON, written through to the disk before the next batch begins. Several processes, as
`accelerate launch` starts them, share the batches and the folder, each with files of its own.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from tqdm import tqdm

Record = dict[str, Any]

FINGERPRINT = "evaluation_in_progress.json"


class JournalError(ValueError):
    """A folder of finished batches cannot be used; the message says why."""


class Processes:
    """The processes that share an evaluation: one, or those of `accelerate launch`."""

    def __init__(self) -> None:
        self.rank, self.count = 0, int(os.environ.get("WORLD_SIZE", "1"))
        self._state: Any = None
        if self.count > 1:
            from accelerate import PartialState

            self._state = PartialState()
            self.rank, self.count = self._state.process_index, self._state.num_processes

    def device(self, name: str) -> str:
        """This process's own device of a kind."""
        return f"cuda:{self._state.local_process_index}" if name == "cuda" and self._state is not None else name

    def wait(self) -> None:
        """Wait until all have come here."""
        if self._state is not None:
            self._state.wait_for_everyone()


class Journal:
    """Records of finished batches in a folder.

    Args:
        folder: is made if it does not exist.
        fingerprint: of everything that the records depend on.
        processes: that share the work.
        restart: whether to forget what the folder holds, if it is of an evaluation.

    Raises:
        JournalError: the folder belongs to another evaluation, or to none.
    """

    def __init__(
        self, folder: Path, fingerprint: Record, processes: Processes | None = None, restart: bool = False
    ) -> None:
        self.folder = folder
        self.processes = processes or Processes()
        if self.processes.rank == 0:
            if restart and (folder / FINGERPRINT).exists():
                shutil.rmtree(folder)
            _claim(folder, fingerprint)
        self.processes.wait()

    def discard_if_empty(self) -> None:
        """Remove the folder where nothing was finished."""
        if self.processes.rank == 0 and not any(path.stat().st_size for path in self.folder.glob("*.jsonl")):
            shutil.rmtree(self.folder, ignore_errors=True)

    def collect(self, name: str, total: int, compute: Callable[[int], Record]) -> list[Record]:
        """The records of all batches, in order; those that are missing are computed.

        Args:
            name: of the records; once for each kind of them.
            total: how many batches there are.
            compute: makes the record of a batch, which JSON must hold without loss.
        """
        known = self._read(name, total)
        rank, count = self.processes.rank, self.processes.count
        mine = [index for index in range(rank, total, count) if index not in known]
        path = self.folder / f"{_file_name(name)}.{rank}.jsonl"
        with path.open("a", encoding="utf-8") as file, _progress(name, total, len(known), rank) as bar:
            if file.tell() and not _ends_a_line(path):
                file.write("\n")  # what a killed process left of its last line stays unread
            for index in mine:
                file.write(json.dumps({"index": index} | compute(index)) + "\n")
                file.flush()
                os.fsync(file.fileno())
                bar.update()
        self.processes.wait()
        known = self._read(name, total)
        if len(known) != total:
            raise JournalError(f"{self.folder} lacks {total - len(known)} of {total} batches of {name}: run it again")
        return [known[index] for index in range(total)]

    def _read(self, name: str, total: int) -> dict[int, Record]:
        records: dict[int, Record] = {}
        for path in sorted(self.folder.glob(f"{_file_name(name)}.*.jsonl")):
            for record in _records(path):
                if 0 <= record["index"] < total:
                    records.setdefault(record["index"], record)
        return records


def _claim(folder: Path, fingerprint: Record) -> None:
    """Make the folder, or make sure that it is the one of this evaluation."""
    path = folder / FINGERPRINT
    text = json.dumps(fingerprint, sort_keys=True, indent=1)
    if not folder.exists():
        folder.mkdir(parents=True)
    elif any(folder.iterdir()):
        try:
            found = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise JournalError(f"{folder} does not hold an unfinished evaluation: move it away") from None
        if found != text:
            raise JournalError(f"{folder} is of {_difference(found, fingerprint)}: --restart begins anew")
    partial = folder / f".{FINGERPRINT}"
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _difference(found: str, fingerprint: Record) -> str:
    """What is not the same, in words."""
    try:
        other = json.loads(found)
        names = [name for name, value in fingerprint.items() if other.get(name) != json.loads(json.dumps(value))]
    except (ValueError, AttributeError):
        names = []
    return f"an evaluation with other {', '.join(names).replace('_', ' ')}" if names else "another evaluation"


def _records(path: Path) -> Iterator[Record]:
    """The whole records of a file."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # a line that was cut off
            continue
        if isinstance(record, dict) and isinstance(record.get("index"), int):
            yield record


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _file_name(name: str) -> str:
    """A name that any file system takes."""
    plain = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
    return plain if plain == name else f"{plain}-{sha256(name.encode()).hexdigest()[:8]}"


def _progress(name: str, total: int, done: int, rank: int) -> Any:
    return tqdm(total=total, initial=done, desc=name, unit="batch", leave=False, disable=rank != 0 or total < 2)
