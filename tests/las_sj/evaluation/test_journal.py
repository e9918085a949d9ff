"""Finished batches: kept to the last bit, found again, never mixed up with others."""

import copy
import math
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from las_sj.evaluation.digest import digest_of
from las_sj.evaluation.errors import JournalError
from las_sj.evaluation.journal import EVALUATION, Journal, Record

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
        Journal(tmp_path / "work", SETTINGS).collect("task", range(5), compute)
    assert computed == [0, 1, 2]
    again: list[int] = []
    records = Journal(tmp_path / "work", SETTINGS).collect(
        "task", range(5), lambda index: again.append(index) or square(index)
    )
    assert again == [3, 4]
    assert [record["value"] for record in records] == [0, 1, 4, 9, 16]


def test_a_line_that_was_cut_off(tmp_path: Path) -> None:
    """A process may be killed within a line, at any byte."""
    Journal(tmp_path / "work", SETTINGS).collect("task", range(2), square)
    (path,) = (tmp_path / "work").glob("*.jsonl")
    whole = path.read_bytes()
    for kept in range(len(whole)):
        path.write_bytes(whole[:kept])
        records = Journal(tmp_path / "work", SETTINGS).collect("task", range(2), square)
        assert [record["value"] for record in records] == [0, 1]
        again = Journal(tmp_path / "work", SETTINGS).collect(
            "task", range(2), lambda index: pytest.fail(f"batch {index}")
        )
        assert again == records


@given(st.lists(st.floats(), min_size=1, max_size=5))
def test_numbers_are_kept_to_the_last_bit(numbers: list[float]) -> None:
    with TemporaryDirectory() as folder, closing(Journal(Path(folder) / "work", SETTINGS)) as journal:
        (record,) = journal.collect("a", [0], lambda index: {"values": numbers})
    for kept, number in zip(record["values"], numbers, strict=True):
        assert kept == number or (math.isnan(kept) and math.isnan(number))


def test_names_do_not_meet(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "work", SETTINGS)
    names = ("a/b", "a_b", "a b", "../a", "SST-2", "SST-2, spikes")
    for number, name in enumerate(names):
        journal.collect(name, [0], lambda index, number=number: {"value": number})  # type: ignore[misc]
    for number, name in enumerate(names):
        assert journal.collect(name, [0], square)[0]["value"] == number
    assert {path.parent for path in tmp_path.rglob("*.jsonl")} == {tmp_path / "work"}


@pytest.mark.parametrize(
    ("other", "says"),
    [({"limit": 4}, "other limit: --restart"), ({"limit": None, "weights": "b2"}, "other limit, weights: --restart")],
)
def test_another_evaluation(other: Record, says: str, tmp_path: Path) -> None:
    Journal(tmp_path / "work", SETTINGS).collect("task", [0], square)
    with pytest.raises(JournalError, match=says):
        Journal(tmp_path / "work", SETTINGS | other)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b'{"limit": 3'])
def test_a_fingerprint_that_is_none(content: bytes, tmp_path: Path) -> None:
    Journal(tmp_path / "work", SETTINGS).collect("task", [0], square)
    (tmp_path / "work" / EVALUATION.fingerprint).write_bytes(content)
    with pytest.raises(JournalError, match=r"another evaluation|does not hold"):
        Journal(tmp_path / "work", SETTINGS)


def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(JournalError, match="does not hold an unfinished evaluation"):
        Journal(tmp_path, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_empty_one_goes(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "work", SETTINGS)
    assert not journal.close()
    assert not (tmp_path / "work").exists()
    journal = Journal(tmp_path / "work", SETTINGS)
    journal.collect("task", [0], square)
    assert journal.close()
    assert (tmp_path / "work").exists()


def test_a_record_is_of_its_batch(tmp_path: Path) -> None:
    """Data that changed since is computed anew, and only that."""
    Journal(tmp_path / "work", SETTINGS).collect("task", ["a", "b", "c"], square)
    computed: list[int] = []
    journal = Journal(tmp_path / "work", SETTINGS)
    records = journal.collect("task", ["a", "B", "c", "d"], lambda index: computed.append(index) or {"value": -index})
    assert computed == [1, 3]
    assert [record["value"] for record in records] == [0, -1, 4, -3]


def test_one_evaluation_at_a_time(tmp_path: Path) -> None:
    first = Journal(tmp_path / "work", SETTINGS)
    with pytest.raises(JournalError, match="another evaluation is running"):
        Journal(tmp_path / "work", SETTINGS)
    first.close()
    Journal(tmp_path / "work", SETTINGS)


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("precious")
    with pytest.raises(JournalError, match="is a file"):
        Journal(tmp_path / "work", SETTINGS)
    assert (tmp_path / "work").read_text() == "precious"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES, VALUES)
def test_digests_are_equal_for_equal_values_only(one: object, other: object) -> None:
    assert digest_of(one) == digest_of(copy.deepcopy(one))
    assert (digest_of(one) == digest_of(other)) == (repr(_sorted(one)) == repr(_sorted(other)))


def _sorted(value: object) -> object:
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(part) for part in value] if isinstance(value, list) else value


def test_digests_of_tensors_and_files(tmp_path: Path) -> None:
    """Shape, kind and content count; where a file lies does not."""
    tensor = torch.arange(6.0)
    different = [tensor, tensor.view(2, 3), tensor.half(), tensor.bfloat16(), tensor.flip(0), tensor.int(), tensor[:0]]
    assert len({digest_of(part) for part in different}) == len(different)
    assert digest_of(tensor.view(2, 3).t()) == digest_of(tensor.view(2, 3).t().contiguous())
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).write_bytes(content)
    assert digest_of(tmp_path / "a") == digest_of(tmp_path / "b") != digest_of(tmp_path / "c")
    with pytest.raises(TypeError, match="no digest of a object"):
        digest_of(object())


def test_files_of_somebody_else_stay(tmp_path: Path) -> None:
    """The end of an evaluation removes what it kept, and nothing else that was put there."""
    journal = Journal(tmp_path / "work", SETTINGS)
    journal.collect("task", [0], square)
    for name in ("thesis.tex", "questions.jsonl"):
        (tmp_path / "work" / name).write_text("precious")
    journal.remove()
    journal.close()
    assert {path.name for path in (tmp_path / "work").iterdir()} >= {"thesis.tex", "questions.jsonl"}
    assert not list((tmp_path / "work").glob("task.*"))


@pytest.mark.parametrize("name", ["a" * 400, "\U00020000" * 400, "a/" * 400])
def test_long_names(name: str, tmp_path: Path) -> None:
    """File systems take 255 bytes; names that begin alike stay apart."""
    with closing(Journal(tmp_path / "work", SETTINGS)) as journal:
        assert journal.collect(name, range(2), square) == journal.collect(name, range(2), square)
        other = journal.collect(f"{name}b", range(2), lambda index: {"value": -index})
    assert [record["value"] for record in other] == [0, -1]
