"""What the scripts of tables share: classifiers with their tasks, and networks of them."""

import copy
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from real_models import DATA
from transformers import PreTrainedModel

import las_sj
from las_sj.checkpoint.loading import load_model
from las_sj.evaluation.classification import calibration_batches, evaluate_glue, read_rows
from las_sj.evaluation.digest import digest_of
from las_sj.evaluation.glue import TASKS, GlueTask
from las_sj.evaluation.journal import Journal
from las_sj.evaluation.paired import Pair
from las_sj.evaluation.result import TaskResult

GLUE = DATA / "glue"


@dataclass(frozen=True)
class Classifier:
    """What `python -m las_sj.finetune` made.

    Attributes:
        folder: its name.
        task: what it classifies.
        ann, tokenizer: the model.
        calibration: batches of training rows.
        data: the folder of GLUE.
        limit: rows of the development split, or None for all.
    """

    folder: Path
    task: GlueTask
    ann: PreTrainedModel
    tokenizer: Any
    calibration: list[dict[str, torch.Tensor]]
    data: Path | None
    limit: int | None

    @classmethod
    def load(cls, folder: Path, data: Path | None = GLUE, limit: int | None = None) -> "Classifier":
        """Read a folder."""
        task = TASKS[json.loads((folder / "finetune.json").read_text(encoding="utf-8"))["task"]]
        ann, tokenizer = load_model(str(folder))
        return cls(folder, task, ann, tokenizer, calibration_batches(task, ann, tokenizer, data, 8), data, limit)

    def pair(self, **settings: Any) -> Pair:
        """The model beside a network with these settings of `LASConfig`, accumulated."""
        snn = las_sj.convert(copy.deepcopy(self.ann), las_sj.LASConfig(**settings), self.calibration)
        las_sj.set_execution(snn, "accumulated")
        return Pair(self.ann, snn, self.tokenizer)

    def evaluate(self, pair: Pair, work: Path | None = None) -> TaskResult:
        """Both on the development split; finished batches are kept in `work`."""
        rows = read_rows(self.task, self.data, self.limit)
        with journal_in(work, {"network": digest_of(pair.snn.state_dict())}) as journal:
            return evaluate_glue(self.task, pair, journal, rows, 32, 0)


@contextmanager
def journal_in(folder: Path | None, fingerprint: dict[str, Any]) -> Iterator[Journal]:
    """A journal in a folder, or one that nobody goes on with."""
    with tempfile.TemporaryDirectory() if folder is None else nullcontext(folder) as place:
        journal = Journal(Path(place) / "finished", fingerprint)
        try:
            yield journal
        finally:
            journal.close()


def print_origin(*names: object) -> None:
    """What a table is of, and when and with what it was made."""
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"{', '.join(str(name) for name in names)}; {time.strftime('%Y-%m-%d')}, {versions}\n", flush=True)
