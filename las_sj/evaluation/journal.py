"""What an evaluation has finished, batch by batch, so that it goes on where it was cut off.

    journal = Journal(folder, fingerprint)
    records = journal.collect("SST-2", batches, lambda index: {"logits": ...})

A record is a line of JSON, written through to the disk before the next batch begins; it holds a digest of its batch,
and counts for no other. Several processes, as `accelerate launch` or `torchrun` starts them, share the batches and the
folder, each with files of its own.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from las_sj.data.unfinished import LOCK, UnfinishedWork, write_whole
from las_sj.data.writing import writing
from las_sj.evaluation.digest import digest_of
from las_sj.evaluation.errors import JournalError

Record = dict[str, Any]

EVALUATION = UnfinishedWork("an evaluation", "finished batches", "evaluation_in_progress.json", JournalError)
LONGEST = 50  # characters of a task's name in that of a file, each of up to 4 of the 255 bytes that systems take
RECORDS = "*.[0-9]*.jsonl"


class Processes:
    """The processes that share an evaluation: one, or those of `accelerate launch` or `torchrun`.

    Args:
        cpu: whether the models are to run on the CPU.

    Raises:
        RuntimeError: a launcher started several, but they do not find each other.
    """

    def __init__(self, cpu: bool = True) -> None:
        self.rank, self.count = 0, 1
        self._state: Any = None
        launched = int(os.environ.get("WORLD_SIZE", "1"))
        if launched > 1:
            from accelerate import PartialState

            self._state = PartialState(cpu=cpu)
            self.rank, self.count = self._state.process_index, self._state.num_processes
            if self.count != launched:
                raise RuntimeError(f"{launched} processes were started, but only {self.count} found each other")

    def device(self, name: str) -> str:
        """The device of a kind that belongs to this process."""
        return f"cuda:{self._state.local_process_index}" if name == "cuda" and self._state is not None else name

    def wait(self) -> None:
        """Wait until all have come here."""
        if self._state is not None:
            self._state.wait_for_everyone()

    def end(self) -> None:
        """Part from the others."""
        if self._state is not None:
            self._state.destroy_process_group()


class Journal:
    """Records of finished batches in a folder, which is this evaluation's alone while it runs.

    Args:
        folder: is made if it does not exist.
        fingerprint: of everything that the records depend on, but for the batches.
        processes: that share the work.
        restart: whether to forget what the folder holds, if it is of an evaluation.

    Raises:
        JournalError: the folder belongs to another evaluation, to none, or to one that is running.
    """

    def __init__(
        self, folder: Path, fingerprint: Record, processes: Processes | None = None, restart: bool = False
    ) -> None:
        self.folder = folder
        self.processes = processes or Processes()
        self._lock = FileLock(folder / LOCK)
        if self.processes.rank == 0:
            if not (restart and (folder / EVALUATION.fingerprint).exists()):
                EVALUATION.check(folder, fingerprint)
            folder.mkdir(parents=True, exist_ok=True)
            self._take()
            if restart:
                _empty(folder)
            self._begin(fingerprint)
        self.processes.wait()

    def _begin(self, fingerprint: Record) -> None:
        try:
            with writing(self.folder):
                write_whole(self.folder / EVALUATION.fingerprint, fingerprint)
        except BaseException:
            (self.folder / EVALUATION.partial).unlink(missing_ok=True)
            self.close()
            raise

    def _take(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise JournalError(f"another evaluation is running in {self.folder}: wait for it, or stop it") from None

    def close(self) -> bool:
        """Let go of the folder, and remove it where nothing was finished; whether it is still there."""
        if self.processes.rank:
            return True
        finished = has_finished(self.folder)
        if not finished:
            self.remove()
        self._lock.release()
        return finished

    def remove(self) -> None:
        """Remove what was kept, and the folder if there is nothing else in it."""
        _empty(self.folder)
        for name in (EVALUATION.fingerprint, EVALUATION.partial, LOCK):
            (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # somebody put something there
            self.folder.rmdir()

    def collect(self, name: str, batches: Sequence[Any], compute: Callable[[int], Record]) -> list[Record]:
        """The records of all batches, in order; those that are missing are computed.

        Args:
            name: of the records; once for each kind of them.
            batches: anything that `digest_of` takes; a record is of one of them.
            compute: makes the record of the batch of a number, which JSON must hold without loss.
        """
        digests, total = [digest_of(batch) for batch in batches], len(batches)
        known = self._read(name, digests)
        rank, count = self.processes.rank, self.processes.count
        mine = [index for index in range(rank, total, count) if index not in known]
        path = self.folder / f"{_file_name(name)}.{rank}.jsonl"
        with _progress(name, total, len(known), rank) as bar:
            for index in mine:
                record = {"index": index, "batch": digests[index]} | compute(index)
                with writing(self.folder):
                    _append(path, json.dumps(record))
                bar.update()
        self.processes.wait()
        known = self._read(name, digests)
        if len(known) != total:
            raise JournalError(f"{self.folder} lacks {total - len(known)} of {total} batches of {name}: run it again")
        return [known[index] for index in range(total)]

    def _read(self, name: str, digests: Sequence[str]) -> dict[int, Record]:
        records: dict[int, Record] = {}
        for path in sorted(self.folder.glob(f"{_file_name(name)}.*.jsonl")):
            for record in _records(path):
                index = record["index"]
                if 0 <= index < len(digests) and record.get("batch") == digests[index]:
                    records.setdefault(index, record)
        return records


def has_finished(folder: Path) -> bool:
    """Whether a folder holds finished batches."""
    return any(path.stat().st_size for path in folder.glob(RECORDS))


def _empty(folder: Path) -> None:
    """Remove the records."""
    for path in folder.glob(RECORDS):
        path.unlink()


def _records(path: Path) -> Iterator[Record]:
    """The whole records of a file."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # a line that was cut off
            continue
        if isinstance(record, dict) and isinstance(record.get("index"), int):
            yield record


def _append(path: Path, line: str) -> None:
    """Add a line, and wait until it is on the disk."""
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")  # what a killed process left of its last line stays unread
        file.write(f"{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def _file_name(name: str) -> str:
    """A name that any file system takes."""
    plain = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
    plain = plain[:LONGEST]
    return plain if plain == name else f"{plain}-{sha256(name.encode()).hexdigest()[:8]}"


def _progress(name: str, total: int, done: int, rank: int) -> Any:
    return tqdm(total=total, initial=done, desc=name, unit="batch", leave=False, disable=rank != 0 or total < 2)
