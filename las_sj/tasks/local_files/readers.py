"""Local files of zero-shot tasks as lm-eval wants them; the YAML tasks beside this file call these functions.

Each takes the folder of data and returns a dataset with a split "test". The prompts are those of lm-eval's own tasks of
the same name; only where the rows come from differs.
"""

import json
import re
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from las_sj.text import read_lines

STARTS_LOWER = ("A", "An", "The", "She", "He", "It", "They", "My", "His", "Her", "Their")
KINDS: dict[str, type] = {"label": int, "choices": list}
CONNECTORS = {"cause": "because", "effect": "therefore"}
WSC_LINES = 5  # sentence, mask, candidates, answer, blank

Row = dict[str, Any]


class DataError(ValueError):
    """A file cannot be read; the message says why."""


def _lines(data_dir: str, name: str) -> list[str]:
    path = Path(data_dir) / name
    try:
        return read_lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from None


def _rows(data_dir: str, name: str, *columns: str) -> list[Row]:
    """JSON objects that have these columns: a number for a label, a list of choices, else text."""
    path, rows = Path(data_dir) / name, []
    for number, line in enumerate(_lines(data_dir, name), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: no JSON: {error}") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: no JSON object")
        wrong = [name for name in columns if not isinstance(row.get(name), KINDS.get(name, str))]
        if wrong:
            raise DataError(f"{path}, line {number}: {', '.join(wrong)} missing or of the wrong kind")
        if "choices" in columns:
            if not all(isinstance(choice, str) and choice.strip() for choice in row["choices"]):
                raise DataError(f"{path}, line {number}: choices that are no text")
            _check_label(f"{path}, line {number}", row["label"], range(len(row["choices"])))
        rows.append(row)
    return rows


def _split(data_dir: str, name: str, rows: list[Row]) -> DatasetDict:
    if not rows:
        raise DataError(f"{Path(data_dir) / name} is empty")
    return DatasetDict(test=Dataset.from_list(rows))


def _check_label(where: str, label: int, known: range) -> None:
    """A label that counts otherwise would give wrong figures, and no error."""
    if label not in known:
        raise DataError(f"{where}: the label {label} is of no choice ({', '.join(map(str, known))})")


def _labelled(data_dir: str, folder: str, known: range, *columns: str) -> DatasetDict:
    """Rows of dev.jsonl, with the labels that lie in a file of their own."""
    name, labels_name = f"{folder}/dev.jsonl", f"{folder}/dev-labels.lst"
    rows, labels = _rows(data_dir, name, *columns), _lines(data_dir, labels_name)
    if len(rows) != len(labels):
        raise DataError(f"{Path(data_dir) / folder}: {len(rows)} rows, {len(labels)} labels")
    if not all(label.strip().isdigit() for label in labels):
        raise DataError(f"{Path(data_dir) / labels_name}: not a number in each line")
    for number, label in enumerate(labels, 1):
        _check_label(f"{Path(data_dir) / labels_name}, line {number}", int(label), known)
    return _split(data_dir, name, [row | {"label": int(label)} for row, label in zip(rows, labels, strict=True)])


def _choices(data_dir: str, name: str) -> DatasetDict:
    return _split(data_dir, name, _rows(data_dir, name, "question", "choices", "label"))


def piqa(data_dir: str, **_: Any) -> DatasetDict:
    """goal, sol1, sol2, label."""
    return _labelled(data_dir, "zeroshot/piqa", range(2), "goal", "sol1", "sol2")


def social_iqa(data_dir: str, **_: Any) -> DatasetDict:
    """context, question, answerA, answerB, answerC, label (1 … 3)."""
    return _labelled(data_dir, "zeroshot/siqa", range(1, 4), "context", "question", "answerA", "answerB", "answerC")


def arc_easy(data_dir: str, **_: Any) -> DatasetDict:
    """question, choices, label."""
    return _choices(data_dir, "zeroshot/arc_easy/test.jsonl")


def arc_challenge(data_dir: str, **_: Any) -> DatasetDict:
    """question, choices, label."""
    return _choices(data_dir, "zeroshot/arc_challenge/test.jsonl")


def openbookqa(data_dir: str, **_: Any) -> DatasetDict:
    """question, choices, label."""
    return _choices(data_dir, "zeroshot/openbookqa/test.jsonl")


def winogrande(data_dir: str, **_: Any) -> DatasetDict:
    """label, beginnings (one for each candidate), ending."""
    name = "zeroshot/winogrande/dev.jsonl"
    rows = _rows(data_dir, name, "question", "choices", "label")
    return _split(data_dir, name, [_partial(row, row["question"], "_") for row in rows])


def copa(data_dir: str, **_: Any) -> DatasetDict:
    """beginning, choices, label."""
    name, rows = "superglue/COPA/val.jsonl", []
    for row in _rows(data_dir, name, "premise", "choice1", "choice2", "question", "label"):
        if row["question"] not in CONNECTORS:
            raise DataError(f"{Path(data_dir) / name}: {row['question']!r} is neither {' nor '.join(CONNECTORS)}")
        _check_label(f"{Path(data_dir) / name}", row["label"], range(2))
        choices = [row[column][:1].lower() + row[column][1:] for column in ("choice1", "choice2")]
        beginning = f"{row['premise'].strip()[:-1]} {CONNECTORS[row['question']]}"
        rows.append({"beginning": beginning, "choices": choices, "label": row["label"]})
    return _split(data_dir, name, rows)


def wsc273(data_dir: str, **_: Any) -> DatasetDict:
    """label, beginnings (one for each candidate), ending."""
    name = "wsc/wsc273.txt"
    lines = _lines(data_dir, name)
    rows = []
    for start in range(0, len(lines), WSC_LINES):
        part = [line.strip() for line in lines[start : start + WSC_LINES - 1]]
        choices = [candidate.strip() for candidate in part[2].split(",")] if len(part) == WSC_LINES - 1 else []
        if not choices or part[3] not in choices or part[1] not in part[0]:
            raise DataError(
                f"{Path(data_dir) / name}, line {start + 1}: not a sentence, its mask, candidates, and the right one"
            )
        sentence, mask = re.sub(" +", " ", part[0]), part[1]
        row = {"choices": [_within(choice, sentence, mask) for choice in choices], "label": choices.index(part[3])}
        rows.append(_partial(row, sentence, mask))
    return _split(data_dir, name, rows)


def lambada(data_dir: str, **_: Any) -> DatasetDict:
    """text."""
    name = "lambada/lambada_test.jsonl"
    return _split(data_dir, name, _rows(data_dir, name, "text"))


def _partial(row: Row, sentence: str, blank: str) -> Row:
    """For partial evaluation (arXiv 1806.02847): what comes before, with each candidate, and what follows."""
    before, _, after = sentence.partition(blank)
    return {
        "label": row["label"],
        "beginnings": [before + choice for choice in row["choices"]],
        "ending": after.strip(),
    }


def _within(candidate: str, sentence: str, mask: str) -> str:
    """A candidate as it is written within a sentence."""
    first, _, rest = candidate.partition(" ")
    starts = sentence.partition(mask)[0].rstrip()[-1:] in ("", ".", "!", "?")
    return candidate if starts or first not in STARTS_LOWER else f"{first.lower()} {rest}".strip()
