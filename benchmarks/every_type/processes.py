"""One process for each entry, with a time limit; what it found until then is kept."""

import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Collection, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess

import torch
from transformers.utils import logging

from every_type.judging import NOT_RUN, Row, judge
from every_type.mappings import Entry

_CONTEXT = multiprocessing.get_context("fork")  # all that is imported once is there


class _Job:
    """An entry that is being judged.

    Args:
        entry: of a mapping.
        stages: as `judge` takes them.
        limit: seconds.
    """

    def __init__(self, entry: Entry, stages: Collection[str], limit: float) -> None:
        self.entry, self.limit = entry, limit
        self.began = time.monotonic()
        self.row: Row = {"status": NOT_RUN, "why": f"over {limit:.0f} s"}
        self.pipe, theirs = _CONTEXT.Pipe(duplex=False)
        self._process: ForkProcess = _CONTEXT.Process(target=_work, args=(entry, stages, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def ended(self) -> bool:
        """Take what came in; whether there will be nothing more."""
        try:
            while self.pipe.poll():
                self.row |= self.pipe.recv()
        except EOFError:
            self._process.join()
            if self._process.exitcode:
                self.row |= {"status": "crashed", "why": f"the process ended with {self._process.exitcode}"}
            return True
        return time.monotonic() - self.began > self.limit

    def finish(self) -> Row:
        """The row, when the process is gone."""
        self._process.kill()
        self._process.join()
        self.pipe.close()
        return self.row | {"seconds": round(time.monotonic() - self.began, 1)}


def judged(entries: Sequence[Entry], stages: Collection[str], jobs: int, limit: float) -> Iterator[tuple[Entry, Row]]:
    """Entries with their rows, as they finish.

    Args:
        entries: to be judged.
        stages: as `judge` takes them.
        jobs: processes at a time.
        limit: seconds for one entry, building included.
    """
    waiting, running = list(entries), list[_Job]()
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(_Job(waiting.pop(0), stages, limit))
        wait([job.pipe for job in running], timeout=1)
        for job in [job for job in running if job.ended()]:
            running.remove(job)
            yield job.entry, job.finish()


def _work(entry: Entry, stages: Collection[str], pipe: Connection) -> None:
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    for row in judge(entry, stages):
        pipe.send(row)
    pipe.close()
