"""300 damaged copies of a converted model: none ends the process, and none runs on with other neurons than were saved.

`mutants` draws them, by number, and says what each is."""

import json
import shutil
from pathlib import Path
from typing import Any

import mutants
import pytest
from programs import run
from tiny_models import convert_tiny, gpt2

from las_sj.checkpoint.loading import load_converted
from las_sj.checkpoint.node_digests import digests_of

MUTANTS = 300
NEVER_RUNS = ("values of a node", "type of a node", "length of the weights")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged") / "model"
    convert_tiny(gpt2(n_layer=1)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> list[dict[str, Any]]:
    """What came of each mutant, in a process that must not end before the last."""
    done = run(mutants.__file__, folder, 0, MUTANTS)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"mutant {len(found)} ended the process: {done.returncode}, {done.stderr[-500:]}"
    return found


@pytest.fixture(scope="module")
def saved(folder: Path) -> dict[str, str]:
    digests: dict[str, str] = digests_of(load_converted(folder)[0])
    return digests


def test_each_mutant_is_heard_of(outcomes: list[dict[str, Any]]) -> None:
    assert [outcome["number"] for outcome in outcomes] == list(range(MUTANTS))
    assert {outcome["kind"] for outcome in outcomes} == set(mutants.KINDS)


def test_every_error_is_one_line_for_people(outcomes: list[dict[str, Any]], folder: Path) -> None:
    errors = [outcome for outcome in outcomes if "error" in outcome]
    assert len(errors) > MUTANTS / 2
    for error in errors:
        assert error["known"], error
        assert "\n" not in error["error"], error
        assert "Error" not in error["error"].replace("Error while deserializing header", ""), error
        assert str(folder.parent) in error["error"], error


def test_no_other_neurons_run(outcomes: list[dict[str, Any]], saved: dict[str, str]) -> None:
    for outcome in outcomes:
        if "digests" in outcome:
            assert outcome["kind"] not in NEVER_RUNS
            assert outcome["digests"] == saved, outcome["number"]


def test_what_is_not_damaged_runs(folder: Path, saved: dict[str, str]) -> None:
    assert mutants.outcome(folder) == {"digests": saved}


def test_layers_without_end_are_refused(folder: Path, tmp_path: Path) -> None:
    """Found by a mutant of a larger number: they took all memory."""
    shutil.copytree(folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"n_layer": 10**400}))
    with pytest.raises(OSError, match=r"config\.json of .* asks for 10{19} layers, but there are \d+ weights"):
        load_converted(tmp_path / "model")
