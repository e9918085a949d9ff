"""Local files of zero-shot tasks as lm-eval wants them; the YAML tasks beside this file call these functions.

Each takes the folder of data and returns a dataset with a split "test". The requests are those of lm-eval's own tasks
of the same name, by its own functions where a task has them; only where the rows come from differs.
"""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from datasets import Dataset, DatasetDict

from las_sj.data.paths import check_regular
from las_sj.data.text import read_lines, why

KINDS: dict[str, type] = {"label": int, "choices": list}
QUESTIONS = ("cause", "effect")
BLANK = "_"
SCHEMAS = 273  # of Levesque et al. 2012; later ones follow in the same file

Row = dict[str, Any]


class DataError(ValueError):
    """A file cannot be read; the message says why."""


def _lines(data_dir: str, name: str) -> list[str]:
    path = Path(data_dir) / name
    try:
        return read_lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path} ({why(error)}): give a file of UTF-8 text") from None


def _rows(data_dir: str, name: str, *columns: str) -> list[Row]:
    """JSON objects that have these columns: a number for a label, a list of choices, else a text that is not blank."""
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
        wrong = [name for name in columns if not _is_of_its_kind(name, row.get(name))]
        if wrong:
            raise DataError(f"{path}, line {number}: {', '.join(wrong)} missing, blank or of the wrong kind")
        if "choices" in columns:
            if not all(isinstance(choice, str) and choice.strip() for choice in row["choices"]):
                raise DataError(f"{path}, line {number}: choices that are no text")
            _check_label(f"{path}, line {number}", row["label"], range(len(row["choices"])))
        rows.append(row)
    return rows


def _is_of_its_kind(column: str, value: Any) -> bool:
    if column in KINDS:
        return isinstance(value, KINDS[column]) and not isinstance(value, bool)
    return isinstance(value, str) and bool(value.strip())


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
    """sentence, option1, option2, answer ("1" or "2")."""
    name, rows = "zeroshot/winogrande/dev.jsonl", []
    for row in _rows(data_dir, name, "question", "choices", "label"):
        if BLANK not in row["question"] or len(row["choices"]) != 2:
            raise DataError(
                f"{Path(data_dir) / name}: not a sentence with {BLANK} and two choices: {row['question']!r}"
            )
        options = dict(zip(("option1", "option2"), row["choices"], strict=True))
        rows.append({"sentence": row["question"], **options, "answer": str(row["label"] + 1)})
    return _split(data_dir, name, rows)


def copa(data_dir: str, **_: Any) -> DatasetDict:
    """premise, choice1, choice2, question, label."""
    name = "superglue/COPA/val.jsonl"
    columns = ("premise", "choice1", "choice2", "question", "label")
    rows = _rows(data_dir, name, *columns)
    for row in rows:
        if row["question"] not in QUESTIONS:
            raise DataError(f"{Path(data_dir) / name}: {row['question']!r} is neither {' nor '.join(QUESTIONS)}")
        _check_label(f"{Path(data_dir) / name}", row["label"], range(2))
    return _split(data_dir, name, [{column: row[column] for column in columns} for row in rows])


def wsc273(data_dir: str, **_: Any) -> DatasetDict:
    """text, pronoun, pronoun_loc, options, label, as the hub has them."""
    name = "wsc/WSCollection.xml"
    path = Path(data_dir) / name
    try:
        check_regular(path)
        schemas = ElementTree.parse(path).getroot().findall("schema")
    except OSError as error:
        raise DataError(f"cannot read {path} ({why(error)}): give a file of XML") from None
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: no XML: {error}") from None
    return _split(
        data_dir, name, [_schema(schema, f"{path}, schema {n}") for n, schema in enumerate(schemas[:SCHEMAS], 1)]
    )


def _schema(schema: ElementTree.Element, where: str) -> Row:
    """A Winograd schema, white space as single spaces."""

    def words(name: str) -> str:
        return _single_spaces(schema.findtext(name))

    before, pronoun, after = (words(f"text/{name}") for name in ("txt1", "pron", "txt2"))
    options = [_single_spaces(answer.text) for answer in schema.findall("answers/answer")]
    right = words("correctAnswer").rstrip(".")
    if not pronoun or len(options) != 2 or not all(options) or right not in ("A", "B"):
        raise DataError(f"{where}: not a text with a pronoun, two answers, and which of them is right")
    return {
        "text": " ".join([before, pronoun, after]).strip(),
        "pronoun": pronoun,
        "pronoun_loc": len(before) + 1 if before else 0,
        "options": options,
        "label": "AB".index(right),
    }


def _single_spaces(text: str | None) -> str:
    return " ".join((text or "").split())


def lambada(data_dir: str, **_: Any) -> DatasetDict:
    """text."""
    name = "lambada/lambada_test.jsonl"
    return _split(data_dir, name, _rows(data_dir, name, "text"))
