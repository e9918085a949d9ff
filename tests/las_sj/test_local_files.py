"""Zero-shot tasks over local files give lm-eval the same prompts, choices and answers as its own tasks of that name."""

import json
import logging
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from las_sj.tasks.zero_shot import LOCAL_FILES, ZeroShotError, load_tasks

pytest.importorskip("lm_eval", reason="the extra evaluate is not installed")

DATA = Path(__file__).parents[3] / "shared" / "data"
NAMES = sorted(path.stem for path in LOCAL_FILES.glob("*.yaml"))
ROWS = {
    "arc_challenge": 1172,
    "arc_easy": 2376,
    "copa": 100,
    "lambada_openai": 5153,
    "openbookqa": 500,
    "piqa": 1838,
    "social_iqa": 1954,
    "winogrande": 1267,
    "wsc273": 273,
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logger = logging.getLogger("lm_eval")
    level = logger.level
    yield
    logger.setLevel(level)


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def task_over(name: str, folder: Path) -> Any:
    (task,) = load_tasks(name, folder)
    return task


def own(name: str) -> dict[str, Any]:
    """lm-eval's own settings of a task."""
    from lm_eval.tasks._yaml_loader import load_yaml

    return dict(load_yaml(index_of_lm_eval()[name].yaml_path, resolve_func=True, recursive=True))


@cache
def index_of_lm_eval() -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager().task_index


def test_names() -> None:
    assert list(ROWS) == NAMES


@pytest.mark.parametrize("name", ["piqa", "arc_easy", "arc_challenge", "social_iqa", "lambada_openai"])
def test_templates_are_those_of_lm_eval(name: str) -> None:
    from lm_eval.tasks._yaml_loader import load_yaml

    ours, theirs = load_yaml(LOCAL_FILES / f"{name}.yaml", resolve_func=True), own(name)
    assert ours["doc_to_text"] == theirs["doc_to_text"]
    assert ours["output_type"] == theirs["output_type"]
    metrics = [{metric["metric"] for metric in settings["metric_list"]} for settings in (ours, theirs)]
    assert metrics[0] == metrics[1]


def test_winogrande(tmp_path: Path) -> None:
    sentence, options = "Sarah was better than Maria so _ always won.", ["Sarah", "Maria"]
    write(tmp_path, "zeroshot/winogrande/dev.jsonl", [{"question": sentence, "choices": options, "label": 1}])
    task = task_over("winogrande", tmp_path)
    (doc,) = task.test_docs()
    theirs, hub = own("winogrande"), {"sentence": sentence, "option1": "Sarah", "option2": "Maria", "answer": "2"}
    assert (
        task.doc_to_choice(doc)
        == theirs["doc_to_choice"](hub)
        == [f"Sarah was better than Maria so {o}" for o in options]
    )
    assert task.doc_to_target(doc) == theirs["doc_to_target"](hub)
    assert task.doc_to_text(doc) == theirs["doc_to_text"](hub) == 1


def test_copa(tmp_path: Path) -> None:
    rows = [
        {
            "premise": "The man fell.",
            "choice1": "He wept.",
            "choice2": "It rained.",
            "question": word,
            "label": label,
        }
        for word, label in (("cause", 1), ("effect", 0))
    ]
    write(tmp_path, "superglue/COPA/val.jsonl", rows)
    task, theirs = task_over("copa", tmp_path), own("copa")
    for doc, row in zip(task.test_docs(), rows, strict=True):
        assert task.doc_to_text(doc) == theirs["doc_to_text"](row)
        assert [f" {choice}" for choice in task.doc_to_choice(doc)] == theirs["doc_to_choice"](row)
        assert task.config.target_delimiter == " "
        assert task.doc_to_target(doc) == row["label"]


def test_wsc273(tmp_path: Path) -> None:
    """Our file has no pronoun; lm-eval finds the beginnings with its place."""
    lines = "The trophy  is in the case. [MASK]  is big. \n[MASK]\nThe trophy,the case\nThe trophy\n\n"
    lines += "The man told the boy that [MASK] left. \n[MASK]\nThe man ,The boy \nThe boy \n\n"
    (tmp_path / "wsc").mkdir()
    (tmp_path / "wsc" / "wsc273.txt").write_text(lines)
    first, second = task_over("wsc273", tmp_path).test_docs()
    assert first["beginnings"] == ["The trophy is in the case. The trophy", "The trophy is in the case. the case"]
    assert (first["ending"], first["label"]) == ("is big.", 0)
    utils = import_module("lm_eval.tasks.wsc273.utils")
    text = "The man told the boy that he left."
    hub = {"text": text, "pronoun": "he", "pronoun_loc": text.index(" he ") + 1}
    normalize = vars(utils)["__normalize_option"]
    before = text[: hub["pronoun_loc"]]
    assert second["beginnings"] == [before + normalize(hub, option) for option in ("The man", "The boy")]
    assert (second["ending"], second["label"]) == ("left.", 1)


def test_labels_in_a_file_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, "zeroshot/piqa/dev.jsonl", [{"goal": "Open a jar", "sol1": "Turn it.", "sol2": "Eat it."}] * 2)
    (tmp_path / "zeroshot/piqa/dev-labels.lst").write_text("0\n1\n")
    task = task_over("piqa", tmp_path)
    first, second = task.test_docs()
    assert task.doc_to_text(first) == "Question: Open a jar\nAnswer:"
    assert task.doc_to_choice(first) == ["Turn it.", "Eat it."]
    assert (task.doc_to_target(first), task.doc_to_target(second)) == (0, 1)
    (tmp_path / "zeroshot/piqa/dev-labels.lst").write_text("0\n")
    with pytest.raises(ZeroShotError, match="2 rows, 1 labels"):
        load_tasks("piqa", tmp_path)


@pytest.mark.parametrize(
    ("name", "file", "row"),
    [
        ("arc_easy", "zeroshot/arc_easy/test.jsonl", {"question": "Who?", "choices": ["I", "you"]}),
        ("winogrande", "zeroshot/winogrande/dev.jsonl", {"question": "Ann saw _.", "choices": ["Bob", "Eve"]}),
        (
            "copa",
            "superglue/COPA/val.jsonl",
            {"premise": "He fell.", "choice1": "He wept.", "choice2": "It rained.", "question": "cause"},
        ),
        ("piqa", "zeroshot/piqa/dev.jsonl", {"goal": "Open a jar", "sol1": "Turn it.", "sol2": "Eat it."}),
        (
            "social_iqa",
            "zeroshot/siqa/dev.jsonl",
            {"context": "He fell.", "question": "Why?", "answerA": "Rain.", "answerB": "Ice.", "answerC": "Wine."},
        ),
    ],
)
def test_label_of_no_choice(name: str, file: str, row: dict[str, Any], tmp_path: Path) -> None:
    """Labels that count from another number would give wrong figures."""
    first = 1 if name == "social_iqa" else 0
    last = 3 if name == "social_iqa" else 1
    for label, known in ((first, True), (last, True), (first - 1, False), (last + 1, False)):
        write(tmp_path, file, [row | {"label": label}])
        (tmp_path / file).with_name("dev-labels.lst").write_text(f"{label}\n")
        if known:
            assert task_over(name, tmp_path).has_test_docs()
        else:
            with pytest.raises(ZeroShotError, match=r"label -?\d is of no choice|not a number"):
                load_tasks(name, tmp_path)


def test_other_separators_within_a_line(tmp_path: Path) -> None:
    text = "to be or\u2028not\x85to be"
    (tmp_path / "lambada").mkdir()
    (tmp_path / "lambada" / "lambada_test.jsonl").write_text(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    (doc,) = task_over("lambada_openai", tmp_path).test_docs()
    assert doc["text"] == text


@pytest.mark.parametrize("choices", [["I", " "], ["I", 2], []])
def test_choices_that_are_none(choices: list[Any], tmp_path: Path) -> None:
    write(tmp_path, "zeroshot/arc_easy/test.jsonl", [{"question": "Who?", "choices": choices, "label": 0}])
    with pytest.raises(ZeroShotError, match=r"line 1: (choices that are no text|the label 0 is of no choice)"):
        load_tasks("arc_easy", tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_missing_files(name: str, tmp_path: Path) -> None:
    with pytest.raises(ZeroShotError, match=f"cannot read the data of {name}.*No such file"):
        load_tasks(name, tmp_path)


@pytest.mark.skipif(not DATA.exists(), reason="needs the evaluation data in ../shared/data")
@pytest.mark.parametrize("name", NAMES)
def test_real_files(name: str) -> None:
    """All rows are there, and each has its right answer among its choices."""
    task = task_over(name, DATA)
    docs = list(task.test_docs())
    assert len(docs) == ROWS[name]
    for doc in docs:
        target = task.doc_to_target(doc)
        if task.OUTPUT_TYPE == "multiple_choice":
            choices = task.doc_to_choice(doc)
            assert len(choices) >= 2
            assert all(isinstance(choice, str) and choice for choice in choices)
            answer = task.doc_to_text(doc) if isinstance(target, str) else target
            assert 0 <= answer < len(choices)
        assert target != ""
