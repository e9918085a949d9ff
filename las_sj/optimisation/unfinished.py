"""What an optimisation has finished, so that it goes on where it was cut off."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from las_sj.data.unfinished import UnfinishedFolder, UnfinishedWork, write_whole
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


class FinishedInFolder(UnfinishedFolder, Finished):
    """What is finished of an optimisation, in a folder that is its alone while it runs.

    Arguments are those of `UnfinishedFolder`, and the error is an OptimisationError.
    """

    work = OPTIMISATION

    def __init__(self, folder: Path, fingerprint: dict[str, Any], restart: bool = False) -> None:
        UnfinishedFolder.__init__(self, folder, fingerprint, restart)
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

    def _empty(self) -> None:
        for name in (STATISTICS, f".{STATISTICS}", MEASUREMENTS, f".{MEASUREMENTS}"):
            (self.folder / name).unlink(missing_ok=True)


@contextmanager
def finished_in(folder: Path, fingerprint: dict[str, Any], restart: bool) -> Iterator[FinishedInFolder]:
    """What is finished of an optimisation, for the time of it; arguments and errors are of `FinishedInFolder`."""
    finished = FinishedInFolder(folder, fingerprint, restart)
    try:
        yield finished
    finally:
        finished.close()
