"""What an optimisation has finished, so that it goes on where it was cut off."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from las_sj.data.unfinished import LOCK, UnfinishedWork, write_whole
from las_sj.data.writing import writing
from las_sj.optimisation.errors import OptimisationError
from las_sj.optimisation.measurement import Measurement
from las_sj.optimisation.statistics import Statistics

OPTIMISATION = UnfinishedWork(
    "an optimisation", "statistics and measurements", "optimisation_in_progress.json", OptimisationError
)
STATISTICS, MEASUREMENTS = "statistics.safetensors", "measurements.json"


class Finished:
    """What is finished of an optimisation, in memory: nothing is kept beyond the process."""

    def __init__(self) -> None:
        self.measurements: dict[str, Measurement] = {}

    def statistics(self, gather: Callable[[], Statistics]) -> Statistics:
        """The statistics, gathered where they are not known yet."""
        return gather()

    def measurement(self, key: str, measure: Callable[[], Measurement]) -> Measurement:
        """The measurement of that key, made where it is not known yet."""
        if key not in self.measurements:
            self.measurements[key] = measure()
        return self.measurements[key]


class FinishedInFolder(Finished):
    """What is finished of an optimisation, in a folder that is its alone while it runs.

    Args:
        folder: is made if it does not exist.
        fingerprint: of everything that the optimisation depends on.
        restart: whether to forget what the folder holds, if it is of an optimisation.

    Raises:
        OptimisationError: the folder belongs to another optimisation, to none, or to one that is running.
    """

    def __init__(self, folder: Path, fingerprint: dict[str, Any], restart: bool = False) -> None:
        super().__init__()
        self.folder = folder
        if not (restart and (folder / OPTIMISATION.fingerprint).exists()):
            OPTIMISATION.check(folder, fingerprint)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / LOCK)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise OptimisationError(f"another optimisation is running in {folder}: wait for it, or stop it") from None
        if restart:
            self._empty()
        with writing(folder):
            write_whole(folder / OPTIMISATION.fingerprint, fingerprint)
        self.measurements = self._read()

    def _read(self) -> dict[str, Measurement]:
        path = self.folder / MEASUREMENTS
        if not path.exists():
            return {}
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
            return {key: Measurement.from_dict(values) for key, values in entries.items()}
        except (ValueError, TypeError, AttributeError):
            raise OptimisationError(f"{path} is damaged: --restart begins anew") from None

    def statistics(self, gather: Callable[[], Statistics]) -> Statistics:
        """As of `Finished`; they are kept."""
        path = self.folder / STATISTICS
        if not path.exists():
            found = gather()
            with writing(self.folder):
                found.save(path)
            return found
        return Statistics.load(path)

    def measurement(self, key: str, measure: Callable[[], Measurement]) -> Measurement:
        """As of `Finished`; they are kept."""
        if key not in self.measurements:
            super().measurement(key, measure)
            entries = {key: found.to_dict() for key, found in self.measurements.items()}
            with writing(self.folder):
                write_whole(self.folder / MEASUREMENTS, entries)
        return self.measurements[key]

    @property
    def has_something(self) -> bool:
        """Whether there is anything to go on with."""
        return (self.folder / STATISTICS).exists()

    def close(self) -> None:
        """Let go of the folder; it goes where nothing was finished."""
        if not self.has_something:
            self.remove()
        self._lock.release()

    def remove(self) -> None:
        """Remove what was kept, and the folder if there is nothing else in it."""
        self._empty()
        for name in (OPTIMISATION.fingerprint, OPTIMISATION.partial, LOCK):
            (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # somebody put something there
            self.folder.rmdir()

    def _empty(self) -> None:
        for name in (STATISTICS, f".{STATISTICS}", MEASUREMENTS, f".{MEASUREMENTS}"):
            (self.folder / name).unlink(missing_ok=True)
        self.measurements = {}


@contextmanager
def finished_in(folder: Path, fingerprint: dict[str, Any], restart: bool) -> Iterator[FinishedInFolder]:
    """What is finished of an optimisation, for the time of it; arguments and errors are of `FinishedInFolder`."""
    finished = FinishedInFolder(folder, fingerprint, restart)
    try:
        yield finished
    finally:
        finished.close()
