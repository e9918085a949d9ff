"""Local files of zero-shot tasks as lm-eval wants them; the YAML tasks beside this file call these functions.

Each takes the folder of data and returns a dataset with a split "test". The prompts are those of lm-eval's own tasks of
the same name; only where the rows come from differs.
"""

import json
import re
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

STARTS_LOWER = ("A", "An", "The", "She", "He", "It", "They", "My", "His", "Her", "Their")
WSC_LINES = 5  # sentence, mask, candidates, answer, blank

Row = dict[str, Any]


class DataError(ValueError):
    """A file cannot be read; the message says why."""


def _lines(data_dir: str, name: str) -> list[str]:
    path = Path(data_dir) / name
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from None


def _rows(data_dir: str, name: str) -> list[Row]:
    lines = _lines(data_dir, name)
    try:
        return [json.loads(line) for line in lines if line.strip()]
    except ValueError as error:
        raise DataError(f"{Path(data_dir) / name} is not JSON lines: {error}") from None


def _split(rows: list[Row]) -> DatasetDict:
    return DatasetDict(test=Dataset.from_list(rows))


def _labelled(data_dir: str, folder: str) -> list[Row]:
    """Rows of dev.jsonl, with the labels that lie in a file of their own."""
    rows, labels = _rows(data_dir, f"{folder}/dev.jsonl"), _lines(data_dir, f"{folder}/dev-labels.lst")
    if len(rows) != len(labels):
        raise DataError(f"{Path(data_dir) / folder}: {len(rows)} rows, {len(labels)} labels")
    return [row | {"label": int(label)} for row, label in zip(rows, labels, strict=True)]


def piqa(data_dir: str, **_: Any) -> DatasetDict:
    """goal, sol1, sol2, label."""
    return _split(_labelled(data_dir, "zeroshot/piqa"))


def social_iqa(data_dir: str, **_: Any) -> DatasetDict:
    """context, question, answerA, answerB, answerC, label (1 … 3)."""
    return _split(_labelled(data_dir, "zeroshot/siqa"))


def arc_easy(data_dir: str, **_: Any) -> DatasetDict:
    """question, choices, label."""
    return _split(_rows(data_dir, "zeroshot/arc_easy/test.jsonl"))


def arc_challenge(data_dir: str, **_: Any) -> DatasetDict:
    """question, choices, label."""
    return _split(_rows(data_dir, "zeroshot/arc_challenge/test.jsonl"))


def openbookqa(data_dir: str, **_: Any) -> DatasetDict:
    """question, choices, label."""
    return _split(_rows(data_dir, "zeroshot/openbookqa/test.jsonl"))


def winogrande(data_dir: str, **_: Any) -> DatasetDict:
    """label, beginnings (one for each candidate), ending."""
    return _split([_partial(row, row["question"], "_") for row in _rows(data_dir, "zeroshot/winogrande/dev.jsonl")])


def copa(data_dir: str, **_: Any) -> DatasetDict:
    """beginning, choices, label."""
    rows = []
    for row in _rows(data_dir, "superglue/COPA/val.jsonl"):
        connector = {"cause": "because", "effect": "therefore"}[row["question"]]
        choices = [row[name][0].lower() + row[name][1:] for name in ("choice1", "choice2")]
        rows.append(
            {"beginning": f"{row['premise'].strip()[:-1]} {connector}", "choices": choices, "label": row["label"]}
        )
    return _split(rows)


def wsc273(data_dir: str, **_: Any) -> DatasetDict:
    """label, beginnings (one for each candidate), ending."""
    lines = _lines(data_dir, "wsc/wsc273.txt")
    rows = []
    for start in range(0, len(lines), WSC_LINES):
        sentence, mask, candidates, answer = (line.strip() for line in lines[start : start + WSC_LINES - 1])
        sentence = re.sub(" +", " ", sentence)
        choices = [candidate.strip() for candidate in candidates.split(",")]
        row = {"choices": [_within(choice, sentence, mask) for choice in choices], "label": choices.index(answer)}
        rows.append(_partial(row, sentence, mask))
    return _split(rows)


def lambada(data_dir: str, **_: Any) -> DatasetDict:
    """text."""
    return _split(_rows(data_dir, "lambada/lambada_test.jsonl"))


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
