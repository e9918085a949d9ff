"""Where a training keeps its checkpoints: one training's alone, known again, and never another's to remove."""

import json
from pathlib import Path

import pytest

from las_sj.training.errors import CheckpointError, TrainingError
from las_sj.training.unfinished import (
    TRAINING,
    UnfinishedTraining,
    last_checkpoint,
    unfinished_training,
)
from las_sj.training.whole import WHOLE, Whole, mark_whole, read_whole

ASKED = {"learning_rate": 1e-3, "steps": 4}


def checkpoint(folder: Path, step: int, whole: bool = True) -> Path:
    place = folder / f"checkpoint-{step}"
    place.mkdir(parents=True)
    if whole:
        (place / "optimizer.pt").write_bytes(b"state")
        mark_whole(place, Whole(step, 1.5))
    return place


def test_last_whole_checkpoint(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "no") is None
    for step in (9, 10):
        checkpoint(tmp_path, step)
    checkpoint(tmp_path, 11, whole=False)
    checkpoint(tmp_path, 12).rename(tmp_path / "checkpoint-abc")  # somebody's, whatever is in it
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


def test_marks_say_what_is_whole(tmp_path: Path) -> None:
    place = checkpoint(tmp_path, 8)
    assert read_whole(place) == Whole(8, 1.5)
    marked = (place / WHOLE).read_text()
    for content in (marked[:-9], "[]", "{}", '{"files": {}, "step": 8, "seconds": NaN}', "\xff"):
        (place / WHOLE).write_text(content, encoding="latin-1")
        with pytest.raises(CheckpointError, match=r"checkpoint-8 cannot .*its whole.json is broken.: --restart"):
            read_whole(place)
    (place / WHOLE).write_text(marked)
    renamed = place.rename(tmp_path / "checkpoint-99")
    with pytest.raises(CheckpointError, match=r"checkpoint-99 cannot .*by its whole.json it is that of step 8"):
        read_whole(renamed)


def test_folder_without_a_checkpoint_goes(tmp_path: Path) -> None:
    folder = tmp_path / "out.unfinished"
    with unfinished_training(folder, ASKED, restart=False):
        assert json.loads((folder / TRAINING.fingerprint).read_text()) == ASKED
    assert not folder.exists()


def test_only_what_is_its_own_is_removed(tmp_path: Path) -> None:
    with unfinished_training(tmp_path / "out", ASKED, restart=False) as unfinished:
        checkpoint(unfinished.folder, 1)
        (unfinished.folder / "notes.txt").write_text("mine")
        checkpoint(unfinished.folder, 2).rename(unfinished.folder / "checkpoint-kept")
        unfinished.remove()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"notes.txt", "checkpoint-kept"}


def test_another_training_is_refused_unless_it_begins_anew(tmp_path: Path) -> None:
    with unfinished_training(tmp_path / "out", ASKED, restart=False) as unfinished:
        checkpoint(unfinished.folder, 1)
    TRAINING.check(tmp_path / "out", ASKED)
    other = ASKED | {"steps": 5}
    with pytest.raises(TrainingError, match="out is of a training with other steps: --restart begins anew"):
        UnfinishedTraining(tmp_path / "out", other)
    with unfinished_training(tmp_path / "out", other, restart=True) as unfinished:
        assert unfinished.checkpoint() is None


def test_running_training_is_left_alone(tmp_path: Path) -> None:
    with (
        unfinished_training(tmp_path / "out", ASKED, restart=False),
        pytest.raises(TrainingError, match=r"another training is running in .*: wait"),
    ):
        UnfinishedTraining(tmp_path / "out", ASKED)


def test_folders_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="file is a file"):
        TRAINING.check(tmp_path / "file", ASKED)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    for restart in (False, True):
        with pytest.raises(TrainingError, match="does not hold an unfinished training: move it away"):
            UnfinishedTraining(tmp_path / "folder", ASKED, restart)
    (tmp_path / "folder" / TRAINING.fingerprint).write_text("[]")
    with pytest.raises(TrainingError, match="is of another training: --restart begins anew"):
        TRAINING.check(tmp_path / "folder", ASKED)
