"""Finished batches: kept to the last bit, found again, never mixed up with others."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from las_sj.tasks.journal import FINGERPRINT, Journal, JournalError, Record

SETTINGS: Record = {"limit": 3, "weights": "a1"}


def square(index: int) -> Record:
    return {"value": index * index}


def test_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    computed: list[int] = []

    def compute(index: int) -> Record:
        if len(computed) == 3:
            raise KeyboardInterrupt
        computed.append(index)
        return square(index)

    with pytest.raises(KeyboardInterrupt):
        Journal(tmp_path / "work", SETTINGS).collect("task", 5, compute)
    assert computed == [0, 1, 2]
    again: list[int] = []
    records = Journal(tmp_path / "work", SETTINGS).collect(
        "task", 5, lambda index: again.append(index) or square(index)
    )
    assert again == [3, 4]
    assert [record["value"] for record in records] == [0, 1, 4, 9, 16]


def test_a_line_that_was_cut_off(tmp_path: Path) -> None:
    """A process may be killed within a line, at any byte."""
    Journal(tmp_path / "work", SETTINGS).collect("task", 2, square)
    (path,) = (tmp_path / "work").glob("*.jsonl")
    whole = path.read_bytes()
    for kept in range(len(whole)):
        path.write_bytes(whole[:kept])
        records = Journal(tmp_path / "work", SETTINGS).collect("task", 2, square)
        assert [record["value"] for record in records] == [0, 1]
        again = Journal(tmp_path / "work", SETTINGS).collect("task", 2, lambda index: pytest.fail(f"batch {index}"))
        assert again == records


@given(st.lists(st.floats(), min_size=1, max_size=5))
def test_numbers_are_kept_to_the_last_bit(numbers: list[float]) -> None:
    record = json.loads(json.dumps({"values": numbers}))
    for kept, number in zip(record["values"], numbers, strict=True):
        assert kept == number or (math.isnan(kept) and math.isnan(number))


def test_names_do_not_meet(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "work", SETTINGS)
    names = ("a/b", "a_b", "a b", "../a", "SST-2", "SST-2, spikes")
    for number, name in enumerate(names):
        journal.collect(name, 1, lambda index, number=number: {"value": number})  # type: ignore[misc]
    for number, name in enumerate(names):
        assert journal.collect(name, 1, square)[0]["value"] == number
    assert {path.parent for path in tmp_path.rglob("*.jsonl")} == {tmp_path / "work"}


@pytest.mark.parametrize(
    ("other", "says"),
    [({"limit": 4}, "other limit: --restart"), ({"limit": None, "weights": "b2"}, "other limit, weights: --restart")],
)
def test_another_evaluation(other: Record, says: str, tmp_path: Path) -> None:
    Journal(tmp_path / "work", SETTINGS).collect("task", 1, square)
    with pytest.raises(JournalError, match=says):
        Journal(tmp_path / "work", SETTINGS | other)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b'{"limit": 3'])
def test_a_fingerprint_that_is_none(content: bytes, tmp_path: Path) -> None:
    Journal(tmp_path / "work", SETTINGS).collect("task", 1, square)
    (tmp_path / "work" / FINGERPRINT).write_bytes(content)
    with pytest.raises(JournalError, match=r"another evaluation|does not hold"):
        Journal(tmp_path / "work", SETTINGS)


def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(JournalError, match="does not hold an unfinished evaluation"):
        Journal(tmp_path, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_empty_one_goes(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "work", SETTINGS)
    journal.discard_if_empty()
    assert not (tmp_path / "work").exists()
    journal = Journal(tmp_path / "work", SETTINGS)
    journal.collect("task", 1, square)
    journal.discard_if_empty()
    assert (tmp_path / "work").exists()
